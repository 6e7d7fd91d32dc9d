"""Messages as bytes and back, without pickle.

    prefix   24 bytes magic and version, header bytes (u32), total bytes (u64), check (u64)
    header   text     a line for each value: name, dtype, shape; see `header`
    body     raw      the values in the header's order: little-endian, C order, no padding

A bool array is sent as bits, 8 to a byte. A text is UTF-8; a tuple of texts is its lengths (u32 each) and
then its UTF-8. So the bytes of the body are the bytes that a paper counts, and the rest is the header.

Size, check and header are looked at first, in this order, and nothing is made of a payload, nor said of it, before all
three agree with the declared fields; texts are looked at before they are made. A refused payload so takes less memory
than it has bytes. The check is XXH3 of all bytes but itself. It is no signature.
"""

from __future__ import annotations

import codecs
import math
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xxhash

from fedloom.federation.header import Entry, entries, limit_of, row
from fedloom.federation.messages import Array, ContractBreach, Field, check_structure, fields_of
from fedloom.outside import text_problem

LARGEST = 16_000_000_000  # bytes of a message, where nothing else is said
_MAGIC = b"FLM\x03"
_PREFIX = struct.Struct("<4sIQ")
_CHECK = struct.Struct("<Q")
_START = _PREFIX.size + _CHECK.size
_FORMATS = {"int": struct.Struct("<q"), "float": struct.Struct("<d"), "flag": struct.Struct("<?")}
_SHOWN = {"text": "utf8", "texts": "utf8", "int": "int64", "float": "float64", "flag": "bool", "none": "none"}
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")  # outside.CONTROLS in UTF-8
_PIECE = 1 << 16  # bytes of a text that are looked at together

Types = type | tuple[type, ...]


class ValueSize(NamedTuple):
    """One value of a payload: its field (`group[name]` in a group), dtype, shape, and bytes in the body."""

    field: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


class Described(NamedTuple):
    """What a payload holds: the name of its message and its values."""

    message: str
    values: tuple[ValueSize, ...]


def encode(message: Any, largest: int = LARGEST) -> bytes:
    """The bytes of a message.

    Raises ContractBreach when a field is not as declared in kind, dtype, shape, a text holds what no text may
    (`fedloom.outside`), or there are more than `largest` bytes.
    """
    check_structure(message)
    kind = type(message)
    lines, body = [f"{kind.__name__}\n"], list[Any]()
    for field in fields_of(kind):
        more, pieces = _pack(field, getattr(message, field.name))
        lines += more
        body += pieces
    header = "".join(lines).encode()
    total = _START + len(header) + sum(len(piece) for piece in body)
    if len(header) > limit_of(kind) or total > largest:
        raise ContractBreach(_too_large(kind.__name__, len(header), limit_of(kind), total, largest))
    prefix = _PREFIX.pack(_MAGIC, len(header), total)
    return b"".join((prefix, _CHECK.pack(_check(prefix, header, *body)), header, *body))


def decode(payload: bytes, expected: Types, largest: int = LARGEST) -> Any:
    """The message in `payload`, of one of the `expected` classes; arrays are owned, aligned and writable.

    Raises ContractBreach, with one line, for bytes that are too many, cut, changed, foreign or not as declared.
    """
    return receive(payload, expected, largest)[0]


def describe(payload: bytes, expected: Types, largest: int = LARGEST, *, own: bool = False) -> Described:
    """What is in a whole `payload` as declared, of which nothing is made. Raises ContractBreach.

    own: it was encoded here, so its check need not be taken again.
    """
    kind, found = _open(payload, expected, largest, own=own)
    return _described(kind, found)


def receive(payload: bytes, expected: Types, largest: int = LARGEST) -> tuple[Any, Described]:
    """The message in `payload`, and what it holds: `decode` and `describe` in one. Raises ContractBreach."""
    kind, found = _open(payload, expected, largest)
    view, values = memoryview(payload), dict[str, Any]()
    group: dict[str, Array] = {}
    try:
        for entry in found:
            _look_at(entry, view)
        for entry in found:
            if entry.inside:
                if entry.name in group:
                    raise ValueError(f"two arrays are called {entry.name[:60]!r}")
                group[entry.name] = _array(entry, view)
            elif entry.tag == "tensors":
                values[entry.name] = group = {}
            else:
                values[entry.name] = _unpack(entry, view)
        message = kind(**values)
    except (TypeError, ValueError) as error:  # text that is no UTF-8, or the message's own __post_init__
        raise ContractBreach(f"message {kind.__name__} cannot be read: {str(error)[:300]}") from error
    check_structure(message)
    return message, _described(kind, found)


def verify(payload: bytes) -> None:
    """Raises ContractBreach for bytes that are no whole message; of which class it is does not matter."""
    _whole(payload, None, len(payload))


def _check(*pieces: Any) -> int:
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
    return digest.intdigest()


def _too_large(name: str, header: int, most_header: int, total: int, most: int) -> str:
    if total > most:
        return f"message {name} has {total} bytes, allowed: {most}"
    return f"message {name} has a header of {header} bytes, allowed: {most_header}"


# -------------------------------------------------------------------------------------------------------------- opening


def _open(payload: bytes, expected: Types, largest: int, *, own: bool = False) -> tuple[type, list[Entry]]:
    """The class of a whole payload and its header's entries, all as declared. Raises ContractBreach."""
    allowed = {t.__name__: t for t in (expected if isinstance(expected, tuple) else (expected,))}
    header, start = _whole(payload, max(map(limit_of, allowed.values())), largest, own=own)
    name = str(bytes(header[:200]).partition(b"\n")[0], "utf-8", "replace")
    kind = allowed.get(name)
    if kind is None or bytes(header[len(name.encode()) :][:1]) != b"\n":
        raise ContractBreach(f"message is {name[:60]!a}; declared {' or '.join(allowed)}")
    fields, at, end = fields_of(kind), len(name.encode()) + 1, start
    for entry in entries(name, fields, header, at, start):  # first all are looked at, then they are kept
        end = entry.start + entry.size
    if end != len(payload):
        raise ContractBreach(f"message {name} describes {end} bytes but is {len(payload)} bytes long")
    return kind, list(entries(name, fields, header, at, start))


def _whole(payload: bytes, most_header: int | None, largest: int, *, own: bool = False) -> tuple[memoryview, int]:
    """The header of an unchanged payload, and where its body begins. Raises ContractBreach."""
    if len(payload) < _START:
        raise ContractBreach(f"payload of {len(payload)} bytes is too short to be a message")
    magic, header, total = _PREFIX.unpack_from(payload)
    if magic != _MAGIC:
        raise ContractBreach(f"payload begins with {bytes(magic)!r}; a message begins with {_MAGIC!r}")
    if total != len(payload) or _START + header > total:
        raise ContractBreach(f"payload is {len(payload)} bytes long but says {total} with a header of {header}")
    if total > largest or (most_header is not None and header > most_header):
        raise ContractBreach(_too_large("(unread)", header, most_header or 0, total, largest))
    view = memoryview(payload)
    if not own and _check(view[: _PREFIX.size], view[_START:]) != _CHECK.unpack_from(payload, _PREFIX.size)[0]:
        raise ContractBreach(f"payload of {total} bytes is corrupt: its checksum does not match")
    lines = view[_START : _START + header]
    if (found := _CONTROL_BYTES.search(lines)) is not None:
        raise ContractBreach(f"payload has a header with the control character {found[0].decode()!a} in it")
    if (wrong := _no_utf8(lines)) is not None:
        raise ContractBreach(f"payload has a header that is not UTF-8: {wrong}")
    return lines, _START + header


def _no_utf8(text: memoryview) -> str | None:
    """Why these bytes are no UTF-8, if they are none; in pieces, as a text may take four times its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(text), _PIECE):
            decoder.decode(text[at : at + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return error.reason
    return None


def _described(kind: type, found: list[Entry]) -> Described:
    values, group = [], ""
    for entry in found:
        if entry.tag == "tensors":
            group = entry.name
        elif entry.inside:
            values.append(ValueSize(f"{group}[{entry.name}]", entry.tag, entry.shape, entry.size))
        else:
            shape = {"text": (), "texts": entry.shape[:1]}.get(entry.tag, entry.shape)
            values.append(ValueSize(entry.name, _SHOWN.get(entry.tag, entry.tag), shape, entry.size))
    return Described(kind.__name__, tuple(values))


# --------------------------------------------------------------------------------------------------------------- values


def _pack(field: Field, value: Any) -> tuple[list[str], list[Any]]:
    """A value as (lines of the header, pieces of the body)."""
    name = field.name
    if value is None:
        return [row(name, "none")], []
    if field.kind == "tensor":
        return [row(name, value.dtype.name, value.shape)], [_raw(value)]
    if field.kind == "tensors":
        members = [row(key, array.dtype.name, array.shape, inside=True) for key, array in value.items()]
        return [row(name, "tensors"), *members], [_raw(array) for array in value.values()]
    if field.kind in _FORMATS:
        return [row(name, field.kind)], [_FORMATS[field.kind].pack(value)]
    given: tuple[str, ...] = (value,) if field.kind == "text" else value
    for text in given:
        if (wrong := text_problem(text)) is not None:
            raise ContractBreach(f"field {name} is a text that cannot cross: it holds {wrong}")
    texts = [text.encode() for text in given]
    joined = b"".join(texts)
    if field.kind == "text":
        return [row(name, "text", (len(joined),))], [joined]
    lengths = np.array([len(text) for text in texts], dtype="<u4")
    return [row(name, "texts", (len(texts), len(joined)))], [lengths.tobytes(), joined]


def _raw(array: Array) -> Array:
    """An array's wire bytes, as a flat uint8 array; a view wherever the array already lies so in memory."""
    if array.dtype == np.bool_:
        return np.packbits(array)
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return little.reshape(-1).view(np.uint8)


def _look_at(entry: Entry, view: memoryview) -> None:
    """Raises ValueError for bytes that are no such value; of texts, what no text may hold."""
    if entry.tag == "flag" and view[entry.start] > 1:
        raise ValueError(f"{entry.name} is byte {view[entry.start]}, not 0 or 1")
    if entry.tag == "float" and not math.isfinite(_FORMATS["float"].unpack_from(view, entry.start)[0]):
        raise ValueError(f"{entry.name} is NaN or infinite; declared finite float")
    if entry.tag == "bool" and (odd := math.prod(entry.shape) % 8) and view[entry.start + entry.size - 1] & 0xFF >> odd:
        raise ValueError(f"{entry.name} has bits behind its last value")
    if entry.tag not in ("text", "texts"):
        return
    whole = view[entry.start + (4 * entry.shape[0] if entry.tag == "texts" else 0) : entry.start + entry.size]
    if (found := _CONTROL_BYTES.search(whole)) is not None:
        said = found[0].decode()
        raise ValueError(f"{entry.name} holds the control character {said!a}, allowed: newline and tab")
    for text in _texts(entry, view):
        if (wrong := _no_utf8(text)) is not None:
            raise ValueError(f"{entry.name} is not UTF-8: {wrong}")


def _texts(entry: Entry, view: memoryview) -> Iterator[memoryview]:
    """The bytes of each text. Raises ValueError, before the first, where their lengths do not add up."""
    piece = view[entry.start : entry.start + entry.size]
    if entry.tag == "text":
        yield piece
        return
    count, total = entry.shape
    if int(np.frombuffer(piece, "<u4", count).sum(dtype=np.uint64)) != total:
        raise ValueError(f"{entry.name} has text lengths that do not add up to {total} bytes")
    at = 4 * count
    for (length,) in struct.iter_unpack("<I", piece[: 4 * count]):
        yield piece[at : at + length]
        at += length


def _unpack(entry: Entry, view: memoryview) -> Any:
    piece = view[entry.start : entry.start + entry.size]
    match entry.tag:
        case "none":
            return None
        case "int" | "float" | "flag":
            return _FORMATS[entry.tag].unpack(piece)[0]
        case "text":
            return str(piece, "utf-8")
        case "texts":
            return tuple(str(text, "utf-8") for text in _texts(entry, view))
        case _:
            return _array(entry, view)


def _array(entry: Entry, view: memoryview) -> Array:
    flat = np.frombuffer(view, dtype=np.uint8, count=entry.size, offset=entry.start)
    if entry.tag == "bool":
        bits = np.unpackbits(flat, count=math.prod(entry.shape))
        return bits.view(np.bool_).reshape(entry.shape)
    # astype copies: the result is aligned, writable and in native byte order whatever the payload was.
    return flat.view(np.dtype(entry.tag).newbyteorder("<")).reshape(entry.shape).astype(entry.tag)
