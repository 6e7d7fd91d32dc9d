"""Small PNG pictures, and what is in them by a decoder of our own: 8-bit RGB or grey, not interlaced."""

from __future__ import annotations

import struct
import zlib
from random import Random

import numpy as np
from numpy.typing import NDArray

from fuzz.harness import Refused, Unsure

SIDE = 8
_START = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"IDAT", b"IEND")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rng: Random, side: int = SIDE) -> bytes:
    """A picture of coloured noise, each row filtered in another way."""
    rows = b"".join(bytes([rng.randrange(5)]) + rng.randbytes(3 * side) for _ in range(side))
    return png_of(side, side, zlib.compress(rows))


def png_of(width: int, height: int, packed: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of these sizes around packed rows, which may be others."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return _START + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pixels(data: bytes, side: int = SIDE) -> NDArray[np.uint8]:
    """The pixels uint8 (side, side, 3) of such a PNG.

    Rows have a checksum of their own, so that of their chunk is not needed; nor is what comes after them.

    Raises Refused for what is broken or no PNG, and Unsure for one of another kind or size.
    """
    if not data.startswith(_START):
        raise Unsure if data[:2] in (b"BM", b"\xff\xd8", b"GI", b"II", b"MM", b"RI") else Refused("no PNG")
    at, packed, head = len(_START), b"", None
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body, check = data[at + 8 : at + 8 + size], data[at + 8 + size : at + 12 + size]
        at += 12 + size
        if kind == b"IEND":
            break
        if kind not in _CRITICAL:
            raise Unsure
        if kind != b"IDAT" and (len(body) < size or check != struct.pack(">I", zlib.crc32(kind + body))):
            raise Refused("a chunk is cut or changed")
        packed += body if kind == b"IDAT" else b""
        if kind == b"IHDR":
            head = struct.unpack(">IIBBBBB", body)
    if head is None:
        raise Refused("no header")
    if head != (side, side, 8, 2, 0, 0, 0):
        raise Unsure
    try:
        rows = zlib.decompressobj().decompress(packed)
    except zlib.error:
        raise Refused("rows that cannot be unpacked") from None
    if len(rows) < side * (1 + 3 * side):
        raise Refused("rows are missing")
    return _unfiltered(rows, side)


def _unfiltered(rows: bytes, side: int) -> NDArray[np.uint8]:
    out = np.zeros((side + 1, 3 * (side + 1)), dtype=np.int64)  # a row above and a pixel at the left, of zeros
    for y in range(1, side + 1):
        kind, *row = rows[(y - 1) * (1 + 3 * side) : y * (1 + 3 * side)]
        for x in range(3, 3 + 3 * side):
            left, above, corner = out[y, x - 3], out[y - 1, x], out[y - 1, x - 3]
            near = sorted(((abs(above - corner), 0), (abs(left - corner), 1), (abs(left + above - 2 * corner), 2)))[0][
                1
            ]
            guess = {0: 0, 1: left, 2: above, 3: (left + above) // 2, 4: (left, above, corner)[near]}.get(kind)
            if guess is None:
                raise Refused("a filter that is none")
            out[y, x] = (row[x - 3] + guess) % 256
    return out[1:, 3:].reshape(side, side, 3).astype(np.uint8)


def bomb(rng: Random) -> bytes:
    """A small file that says, or unpacks to, a very large picture."""
    wide = rng.choice(((65535, 65535), (2**31 - 1, 1), (1, 2**31 - 1), (20_000, 20_000), (0, 8), (8, 0)))
    return png_of(*wide, zlib.compress(bytes(rng.choice((100, 1_000_000)))), 8, rng.choice((0, 2, 6)))


def gif_bomb() -> bytes:
    """A GIF whose screen is the largest that it can say."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
