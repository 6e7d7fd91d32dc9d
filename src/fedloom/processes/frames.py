"""What two processes of one machine say to each other: a JSON header and raw payloads, no pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Protocol

from fedloom.strict_json import parse

_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"FLMW"
_LONGEST_HEADER = 1 << 28  # bytes; one that claims more is none of ours


class Readable(Protocol):
    """What bytes are read from, whole: fewer than asked for only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> Any: ...

    def flush(self) -> Any: ...


def write_frame(stream: Writable, header: Mapping[str, Any], *payloads: bytes) -> None:
    """Writes one frame and flushes. Raises OSError when nobody reads any more."""
    head = json.dumps([header, [len(payload) for payload in payloads]]).encode()
    stream.write(_HEAD.pack(_MAGIC, len(head), sum(len(payload) for payload in payloads)) + head)
    for payload in payloads:
        stream.write(payload)
    stream.flush()


def read_frame(stream: Readable) -> tuple[dict[str, Any], tuple[bytes, ...]] | None:
    """The next frame, or None when the other side has ended or writes something else."""
    start = stream.read(_HEAD.size)
    if len(start) < _HEAD.size:
        return None
    magic, head_bytes, payload_bytes = _HEAD.unpack(start)
    if magic != _MAGIC or head_bytes > _LONGEST_HEADER:
        return None
    head = stream.read(head_bytes)
    if len(head) < head_bytes:
        return None
    try:
        header, sizes = parse(head, finite=False, own=True)
        if not isinstance(header, dict) or not all(type(size) is int and size >= 0 for size in sizes):
            return None
        if sum(sizes) != payload_bytes:
            return None
        payloads = tuple(stream.read(size) for size in sizes)
    except (ValueError, TypeError, OverflowError, MemoryError):  # or sizes that no memory has
        return None
    return None if sum(map(len, payloads)) < payload_bytes else (header, payloads)
