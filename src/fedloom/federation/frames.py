"""What the server's process and a worker say to each other over a pipe: a JSON header and raw bytes, no
pickle.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"FLMW"


def write_frame(stream: BinaryIO, header: Mapping[str, Any], payload: bytes = b"") -> None:
    """Writes one frame and flushes. Raises OSError when nobody reads any more."""
    head = json.dumps(header).encode()
    stream.write(_HEAD.pack(_MAGIC, len(head), len(payload)) + head)
    stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None when the other side has ended or writes something else."""
    start = stream.read(_HEAD.size)
    if len(start) < _HEAD.size:
        return None
    magic, head_bytes, payload_bytes = _HEAD.unpack(start)
    if magic != _MAGIC:
        return None
    head, payload = stream.read(head_bytes), stream.read(payload_bytes)
    if len(head) < head_bytes or len(payload) < payload_bytes:
        return None
    header = json.loads(head)
    assert isinstance(header, dict)
    return header, payload
