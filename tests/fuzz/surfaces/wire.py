"""What comes over the wire: messages, frames, letters, and what silos and servers say in them."""

from __future__ import annotations

import dataclasses
import io
import math
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from fedloom.federation.codec import decode, encode
from fedloom.federation.messages import Tensor, Tensors, check_values
from fedloom.processes.frames import read_frame, write_frame
from fuzz.harness import Refused, Surface
from fuzz.inputs import Input
from fuzz.mutate import damaged
from fuzz.odd_values import ODD_NUMBERS, ODD_TEXTS
from fuzz.truth import strict_json


@dataclass(frozen=True)
class Everything:
    """A field of each kind."""

    half: Annotated[NDArray[Any], Tensor(("float16", "float32"), ("N", "D"))]
    mask: Annotated[NDArray[Any], Tensor("bool", ("N",))]
    scalar: Annotated[NDArray[Any], Tensor("float64", ())]
    model: Annotated[Mapping[str, NDArray[Any]], Tensors(("float32", "int64"))]
    captions: tuple[str, ...]
    name: str
    count: int
    loss: float
    last: bool
    extra: Annotated[NDArray[Any], Tensor("int64", ("N",))] | None = None
    note: str | None = None
    noisy: Annotated[NDArray[Any] | None, Tensor("float32", ("K",), finite=False)] = None


_PREFIX = struct.Struct("<4sIQQ")
_SIZES = {"int": 8, "float": 8, "flag": 1}
_TAGS = {  # of each field what it may be; an optional one "none" too
    "half": ("float16", "float32"), "mask": ("bool",), "scalar": ("float64",), "model": ("tensors",),
    "captions": ("texts",), "name": ("text",), "count": ("int",), "loss": ("float",), "last": ("flag",),
    "extra": ("int64", "none"), "note": ("text", "none"), "noisy": ("float32", "none"),
}  # fmt: skip


# Texts that may cross. Of a size that leaves the fuzzer quick.
SENDABLE = tuple(t[:200] for t in ODD_TEXTS if not any(unicodedata.category(c) in ("Cc", "Cs") for c in t))


def _text(rng: Random) -> str:
    return rng.choice(SENDABLE)


def draw_message(rng: Random) -> Everything:
    """A message with arrays of a few values."""
    draws = np.random.default_rng(rng.randrange(2**32))
    n, d = rng.randrange(5), rng.randrange(1, 4)
    return Everything(
        draws.normal(size=(n, d)).astype(rng.choice(("float16", "float32"))),
        draws.random(n) < 0.5,
        np.array(draws.normal()),
        {f"w{i}": draws.integers(-9, 9, (rng.randrange(3), 2)).astype("int64") for i in range(rng.randrange(3))},
        tuple(_text(rng) for _ in range(rng.randrange(4))),
        _text(rng),
        rng.choice((0, -1, 2**63 - 1, -(2**63))),
        draws.normal(),
        rng.random() < 0.5,
        draws.integers(-9, 9, n) if rng.random() < 0.5 else None,
        _text(rng) if rng.random() < 0.5 else None,
        np.array([1.0, math.nan, math.inf], "float32") if rng.random() < 0.5 else None,
    )


def _sealed(header: bytes, body: bytes) -> bytes:
    prefix = struct.pack("<4sIQ", b"FLM\x03", len(header), _PREFIX.size + len(header) + len(body))
    return prefix + struct.pack("<Q", xxhash.xxh3_64_intdigest(prefix + header + body)) + header + body


def _parts(payload: bytes) -> tuple[bytes, bytes]:
    """Header and body, as far as the payload says where they are."""
    size = _PREFIX.unpack(payload[: _PREFIX.size])[1] if len(payload) >= _PREFIX.size else 0
    rest = payload[_PREFIX.size :]
    return rest[:size], rest[size:]


def mend_message(rng: Random, given: Input) -> Input:
    """Right lengths and checksum, whatever header and body are."""
    return given.replace("payload", _sealed(*_parts(given.files["payload"])))  # type: ignore[arg-type]


def damage_header(rng: Random, given: Input) -> Input:
    """One thing in the header changed, lengths and checksum right."""
    header, body = _parts(given.files["payload"])  # type: ignore[arg-type]
    lines = header.split(b"\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(b"\t")
    match rng.randrange(3):
        case 0:
            cells[rng.randrange(len(cells))] = rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
        case 1:
            cells[rng.randrange(len(cells))] = str(rng.choice(ODD_NUMBERS)).encode()
        case _:  # lines, fields and bytes, as of any text
            return given.replace("payload", _sealed(damaged(rng, header, "header.txt"), body))
    lines[at] = b"\t".join(cells)
    return given.replace("payload", _sealed(b"\n".join(lines), body))


def swap_words(rng: Random, given: Input) -> Input:
    """Words or blocks of the payload in each other's place, or bits flipped, and nothing put right again."""
    data = bytearray(given.files["payload"])  # type: ignore[arg-type]
    size = rng.choice((1, 2, 4, 8, 16, 512))
    if len(data) < 2 * size or rng.random() < 0.3:
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        a, b = sorted(rng.randrange(len(data) // size) * size for _ in range(2))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return given.replace("payload", bytes(data))


def read_message(folder: Path, given: Input) -> Any:
    """decode, and the check that a site makes."""
    message = decode(given.files["payload"], Everything)  # type: ignore[arg-type]
    check_values(message)
    again = decode(encode(message), Everything)
    assert encode(again) == encode(message)
    return {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}


def true_message(folder: Path, given: Input) -> Any:
    """The fields by the layout that the codec's docstring gives."""
    payload: Any = given.files["payload"]
    if len(payload) < _PREFIX.size:
        raise Refused("too short")
    magic, size, total, check = _PREFIX.unpack(payload[: _PREFIX.size])
    header, body = _parts(payload)
    right = xxhash.xxh3_64_intdigest(payload[:16] + header + body) == check
    if magic != b"FLM\x03" or total != len(payload) or len(header) != size or not right:
        raise Refused("prefix or checksum")
    name, *lines = _clean(header).split("\n")
    if name != "Everything" or lines[-1:] != [""]:
        raise Refused("name or end")
    cells = [line.split("\t") for line in lines[:-1]]
    rows: list[Any] = []
    for row in cells:
        if len(row) == 4 and row[0] == "" and rows and rows[-1][1] == "tensors":
            rows[-1][2].append((row[1], row[2], _extent(row[3])))
        elif len(row) == 3 and (row[1] != "tensors" or row[2] == ""):
            rows.append((row[0], row[1], [] if row[1] == "tensors" else _extent(row[2])))
        else:
            raise Refused("a line")
    if [row[0] for row in rows] != list(_TAGS):
        raise Refused("names")
    source = io.BytesIO(body)
    found = {row[0]: _value(row[0], row[1], row[2], source) for row in rows}
    if source.read():
        raise Refused("bytes left over")
    n = found["half"].shape[0]
    if found["half"].ndim != 2 or found["mask"].shape != (n,) or found["scalar"].shape != ():
        raise Refused("shapes")
    if (found["extra"] is not None and found["extra"].shape != (n,)) or (
        found["noisy"] is not None and found["noisy"].ndim != 1
    ):
        raise Refused("shapes of optional fields")
    finite = [
        found["half"],
        found["scalar"],
        *(a for a in found["model"].values() if a.dtype.kind == "f"),
        found["loss"],
    ]
    if not all(np.isfinite(np.asarray(a, dtype=np.float64)).all() for a in finite):
        raise Refused("not finite")
    return found


def _extent(text: str) -> list[int]:
    """Sizes as they are usually written, with commas between; none is no size."""
    if not all(part.isascii() and part.isdecimal() and part == str(int(part[:20])) for part in text.split(",") if text):
        raise Refused("a shape")
    return [int(part) for part in text.split(",")] if text else []


def _value(field: str, tag: str, extent: list[Any], source: io.BytesIO) -> Any:
    if tag not in _TAGS[field]:
        raise Refused(f"{field} is {tag}")
    if tag == "none":
        return None if extent == [] else _refuse("none with a shape")
    if tag == "tensors":
        names = [name for name, _, _ in extent]
        if len(set(names)) != len(names):
            raise Refused("a name twice")
        if any(dtype not in ("float32", "int64") for _, dtype, _ in extent):
            raise Refused("dtype in a group")
        return {name: _array(dtype, shape, source) for name, dtype, shape in extent}
    if tag == "texts":
        lengths = struct.unpack(f"<{extent[0]}I", _take(source, 4 * extent[0]))
        if sum(lengths) != extent[1]:
            raise Refused("lengths of texts")
        return tuple(_clean(_take(source, n)) for n in lengths)
    if tag == "text":
        return _clean(_take(source, extent[0]))
    if tag in _SIZES:
        if extent != []:
            raise Refused("a number with a shape")
        (value,) = struct.unpack({"int": "<q", "float": "<d", "flag": "<B"}[tag], _take(source, _SIZES[tag]))
        if tag == "flag":
            return {0: False, 1: True}[value] if value < 2 else _refuse("a flag of neither 0 nor 1")
        return value
    return _array(tag, extent, source)


def _array(dtype: str, shape: list[int], source: io.BytesIO) -> Any:
    count = math.prod(shape)
    if dtype == "bool":
        bits = "".join(f"{byte:08b}" for byte in _take(source, -(-count // 8)))
        if "1" in bits[count:]:
            raise Refused("bits behind the last")
        return np.array([bit == "1" for bit in bits[:count]], dtype=bool).reshape(shape)
    return np.frombuffer(_take(source, count * np.dtype(dtype).itemsize), np.dtype(dtype)).reshape(shape)


def _take(source: io.BytesIO, size: int) -> bytes:
    data = source.read(size)
    return data if len(data) == size else _refuse("too short")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _refuse("no UTF-8")


def _clean(data: bytes) -> str:
    """A text without control characters but newline and tab."""
    text = _decoded(data)
    if any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text):
        return _refuse("a control character")
    return text


def _refuse(why: str) -> Any:
    raise Refused(why)


def draw_frames(rng: Random) -> Input:
    out = io.BytesIO()
    for _ in range(rng.randrange(1, 4)):
        header = {"id": rng.randrange(9), "op": _text(rng), "tag": {"round": 1}, "list": [1.5, None, True]}
        write_frame(out, header, *(rng.randbytes(rng.randrange(50)) for _ in range(rng.randrange(3))))
    return Input({"frames": out.getvalue()})


def read_frames(folder: Path, given: Input) -> Any:
    source = io.BytesIO(given.files["frames"])  # type: ignore[arg-type]
    found = []
    while (frame := read_frame(source)) is not None:
        found.append(frame)
    return found


def true_frames(folder: Path, given: Input) -> Any:
    """Frames up to the first that is none."""
    data: Any = given.files["frames"]
    found: list[Any] = []
    while len(data) >= 16:
        magic, size, total = struct.unpack("<4sIQ", data[:16])
        head, rest = data[16 : 16 + size], data[16 + size :]
        try:
            header, sizes = strict_json(head, finite=False, own=True)
            fits = isinstance(header, dict) and all(type(n) is int and n >= 0 for n in sizes)
        except (Refused, ValueError, TypeError):
            break
        if magic != b"FLMW" or len(head) < size or not fits or sum(sizes) != total or len(rest) < total:
            break
        payloads = []
        for n in sizes:
            payloads.append(rest[:n])
            rest = rest[n:]
        found.append((header, tuple(payloads)))
        data = rest
    return found


SURFACES = (
    Surface(
        "codec",
        lambda rng: Input({"payload": encode(draw_message(rng))}),
        read_message,
        true_message,
        (damage_header, swap_words),
        mend_message,
        share=3,
        files_too=False,
    ),
    Surface("frames", draw_frames, read_frames, true_frames, files_too=False, share=1.5),
)
