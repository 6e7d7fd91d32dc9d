"""Messages as bytes and back, without pickle.

    prefix   20 bytes magic and version, header bytes (u32), total bytes (u64), check (u32)
    header   JSON     ["Lesson", [["labels", "int32", [100]], ["model", "tensors", [["w", "float32", [3]]]]]]
    body     raw      the values in the header's order: little-endian, C order, no padding

A bool array is sent as bits, 8 to a byte. A text is UTF-8; a tuple of texts is its lengths (u32 each) and
then its UTF-8. So the bytes of the body are the bytes that a paper counts, and the rest is the header.
Nothing is allocated for a payload before its header agrees with its length and with the declared fields.

The check is a CRC-32 over all but itself, of the sums (u64, modulo 2^64) of each block of 512 words of 8 bytes, and of
the bytes that are left over: as sure as the CRC against bytes lost or changed on the way, at memory's speed. It is no
signature.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedloom.federation.messages import DTYPES, Array, ContractBreach, Field, check_structure, fields_of
from fedloom.strict_json import parse

_MAGIC = b"FLM\x02"
_PREFIX = struct.Struct("<4sIQ")
_CHECK = struct.Struct("<I")
_START = _PREFIX.size + _CHECK.size
_BLOCK = 4096  # bytes
_FORMATS = {"int": struct.Struct("<q"), "float": struct.Struct("<d"), "flag": struct.Struct("<?")}
_FIXED = {"none": 0, **{tag: form.size for tag, form in _FORMATS.items()}}
_SHOWN = {"text": "utf8", "texts": "utf8", "int": "int64", "float": "float64", "flag": "bool", "none": "none"}
_MOST_AXES, _MOST_VALUES = 16, 2**48


class ValueSize(NamedTuple):
    """One value of a payload: its field (`group[name]` in a group), dtype, shape, and bytes in the body."""

    field: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


class _Entry(NamedTuple):
    """One header row with its place in the payload; `tag` is a dtype name, a kind, `tensors` or `none`."""

    name: str
    tag: str
    shape: tuple[int, ...]
    start: int
    size: int
    members: tuple[_Entry, ...] = ()


def encode(message: Any) -> bytes:
    """The bytes of a message. Raises ContractBreach when a field is not as declared in kind, dtype, shape."""
    check_structure(message)
    rows: list[list[Any]] = []
    body: list[Any] = []
    for field in fields_of(type(message)):
        tag, extent, pieces = _pack(field, getattr(message, field.name))
        rows.append([field.name, tag, extent])
        body += pieces
    header = json.dumps([type(message).__name__, rows], separators=(",", ":"), ensure_ascii=False).encode()
    prefix = _PREFIX.pack(_MAGIC, len(header), _START + len(header) + sum(len(piece) for piece in body))
    check = checked(prefix, header, *body)
    return b"".join((prefix, _CHECK.pack(check), header, *body))


def checked(*pieces: Any) -> int:
    """The check over bytes-like `pieces`, wherever they are cut."""
    check, left = 0, b""
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if left:
            need = _BLOCK - len(left)
            left, view = left + bytes(view[:need]), view[need:]
            if len(left) < _BLOCK:
                continue
            check, left = _sums(left, check), b""
        whole = len(view) - len(view) % _BLOCK
        check, left = _sums(view[:whole], check), bytes(view[whole:])
    return zlib.crc32(left, check)


def _sums(blocks: Any, check: int) -> int:
    words = np.frombuffer(blocks, "<u8").reshape(-1, _BLOCK // 8)
    return zlib.crc32(words.sum(1, dtype=np.uint64).astype("<u8", copy=False), check)


def decode(payload: bytes, expected: type | tuple[type, ...]) -> Any:
    """The message in `payload`, of one of the `expected` classes; arrays are owned, aligned and writable.

    Raises ContractBreach, with one line, for bytes that are cut, changed, foreign or not as declared.
    """
    name, entries = _read(payload, verify=True)
    allowed = {t.__name__: t for t in (expected if isinstance(expected, tuple) else (expected,))}
    if name not in allowed:
        raise ContractBreach(f"message is {name[:60]!r}; declared {' or '.join(allowed)}")
    fields = fields_of(allowed[name])
    _same_names(name, [e.name for e in entries], [f.name for f in fields])
    for field, entry in zip(fields, entries):
        _as_declared(name, field, entry)
    view = memoryview(payload)
    try:
        message = allowed[name](**{e.name: _unpack(e, view) for e in entries})
    except (TypeError, ValueError) as error:  # text that is no UTF-8, or the message's own __post_init__
        raise ContractBreach(f"message {name} cannot be read: {str(error)[:300]}") from error
    check_structure(message)
    return message


def verify(payload: bytes) -> None:
    """Raises ContractBreach for bytes that are no whole message; of which class it is does not matter."""
    _read(payload, verify=True)


def describe(payload: bytes) -> list[ValueSize]:
    """The values in `payload` by its header alone (no checksum, no class needed). Raises ContractBreach."""
    rows = []
    for entry in _read(payload, verify=False)[1]:
        if entry.tag == "tensors":
            rows += [ValueSize(f"{entry.name}[{m.name}]", m.tag, m.shape, m.size) for m in entry.members]
        else:
            shape = {"text": (), "texts": entry.shape[:1]}.get(entry.tag, entry.shape)
            rows.append(ValueSize(entry.name, _SHOWN.get(entry.tag, entry.tag), shape, entry.size))
    return rows


def message_name(payload: bytes) -> str:
    """The name of the message class that `payload` says it is. Raises ContractBreach."""
    return _read(payload, verify=False)[0]


def _pack(field: Field, value: Any) -> tuple[str, list[Any], list[Any]]:
    """A value as (tag, extent, pieces of the body)."""
    if value is None:
        return "none", [], []
    if field.kind == "tensor":
        return value.dtype.name, list(value.shape), [_raw(value)]
    if field.kind == "tensors":
        members = [[key, array.dtype.name, list(array.shape)] for key, array in value.items()]
        return "tensors", members, [_raw(array) for array in value.values()]
    if field.kind in _FORMATS:
        return field.kind, [], [_FORMATS[field.kind].pack(value)]
    try:
        texts = [text.encode() for text in ([value] if field.kind == "text" else value)]
    except UnicodeEncodeError as error:
        raise ContractBreach(f"field {field.name} is text that UTF-8 cannot carry: {error.reason}") from error
    joined = b"".join(texts)
    if field.kind == "text":
        return "text", [len(joined)], [joined]
    lengths = np.array([len(text) for text in texts], dtype="<u4")
    return "texts", [len(texts), len(joined)], [lengths.tobytes(), joined]


def _raw(array: Array) -> Array:
    """An array's wire bytes, as a flat uint8 array; a view wherever the array already lies so in memory."""
    if array.dtype == np.bool_:
        return np.packbits(array)
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return little.reshape(-1).view(np.uint8)


def _unpack(entry: _Entry, view: memoryview) -> Any:
    piece = view[entry.start : entry.start + entry.size]
    match entry.tag:
        case "none":
            return None
        case "tensors":
            return {member.name: _array(member, view) for member in entry.members}
        case "int" | "float" | "flag":
            if entry.tag == "flag" and piece[0] > 1:
                raise ValueError(f"{entry.name} is byte {piece[0]}, not 0 or 1")
            return _FORMATS[entry.tag].unpack(piece)[0]
        case "text":
            return str(piece, "utf-8")
        case "texts":
            count, total = entry.shape
            ends = np.cumsum(np.frombuffer(piece[: 4 * count], dtype="<u4"), dtype=np.int64)
            if (int(ends[-1]) if count else 0) != total:
                raise ValueError(f"{entry.name} has text lengths that do not add up to {total} bytes")
            texts, starts = piece[4 * count :], [0, *ends[:-1].tolist()]
            return tuple(str(texts[a:b], "utf-8") for a, b in zip(starts, ends.tolist()))
        case _:
            return _array(entry, view)


def _array(entry: _Entry, view: memoryview) -> Array:
    flat = np.frombuffer(view, dtype=np.uint8, count=entry.size, offset=entry.start)
    if entry.tag == "bool":
        bits = np.unpackbits(flat, count=math.prod(entry.shape))
        return bits.reshape(entry.shape).astype(np.bool_)
    # astype copies: the result is aligned, writable and in native byte order whatever the payload was.
    return flat.view(np.dtype(entry.tag).newbyteorder("<")).reshape(entry.shape).astype(entry.tag)


def _read(payload: bytes, *, verify: bool) -> tuple[str, list[_Entry]]:
    """The message name and placed header rows of a payload that is whole and agrees with its length."""
    if len(payload) < _START:
        raise ContractBreach(f"payload of {len(payload)} bytes is too short to be a message")
    magic, header_bytes, total = _PREFIX.unpack_from(payload)
    if magic != _MAGIC:
        raise ContractBreach(f"payload begins with {bytes(magic)!r}; a message begins with {_MAGIC!r}")
    if total != len(payload) or _START + header_bytes > total:
        raise ContractBreach(f"payload is {len(payload)} bytes long but says {total} with a header of {header_bytes}")
    view = memoryview(payload)
    if verify and checked(view[: _PREFIX.size], view[_START:]) != _CHECK.unpack_from(payload, _PREFIX.size)[0]:
        raise ContractBreach(f"payload of {total} bytes is corrupt: its checksum does not match")
    try:
        name, rows = parse(bytes(view[_START : _START + header_bytes]))
        entries, end = _place(rows, _START + header_bytes, grouped=False)
    except (ValueError, TypeError) as error:
        raise ContractBreach(f"payload has a header that cannot be read: {str(error)[:100]}") from error
    if not isinstance(name, str):
        raise ContractBreach("payload has a header without a message name")
    if end != total:
        raise ContractBreach(f"message {name[:60]!r} describes {end} bytes but is {total} bytes long")
    return name, entries


def _place(rows: Any, start: int, *, grouped: bool) -> tuple[list[_Entry], int]:
    """Gives each header row its place; rows of a group are arrays only. Raises ValueError or TypeError."""
    entries: list[_Entry] = []
    if not isinstance(rows, list):
        raise TypeError("rows are not a list")
    for name, tag, extent in rows:
        if not isinstance(name, str) or not isinstance(tag, str):
            raise TypeError("a row has no name and dtype")
        if tag == "tensors" and not grouped:
            members, end = _place(extent, start, grouped=True)
            entries.append(_Entry(name, tag, (), start, end - start, tuple(members)))
        else:
            shape, size = _size(tag, extent, grouped)
            entries.append(_Entry(name, tag, shape, start, size))
            end = start + size
        start = end
    if len({e.name for e in entries}) != len(entries):
        raise ValueError("a name occurs twice")
    return entries, start


def _size(tag: str, extent: Any, grouped: bool) -> tuple[tuple[int, ...], int]:
    """(shape, bytes in the body) of one row. Raises ValueError for an extent that no message can have."""
    if not isinstance(extent, list) or len(extent) > _MOST_AXES or any(type(n) is not int or n < 0 for n in extent):
        raise ValueError(f"shape {str(extent)[:60]} is not a list of sizes")
    if math.prod(max(n, 1) for n in extent) > _MOST_VALUES:
        raise ValueError(f"shape {str(extent)[:60]} is too large")
    shape = tuple(extent)
    if tag in DTYPES:
        count = math.prod(shape)
        return shape, -(-count // 8) if tag == "bool" else count * np.dtype(tag).itemsize
    if not grouped:
        if tag in _FIXED and not shape:
            return shape, _FIXED[tag]
        if tag == "text" and len(shape) == 1:
            return shape, shape[0]
        if tag == "texts" and len(shape) == 2:
            return shape, 4 * shape[0] + shape[1]
    raise ValueError(f"dtype {tag[:40]!r} with shape {list(shape)} cannot cross")


def _same_names(owner: str, found: list[str], declared: list[str]) -> None:
    if found == declared:
        return
    extra, missing = sorted(set(found) - set(declared)), sorted(set(declared) - set(found))
    if extra:
        raise ContractBreach(f"message {owner} has a field {extra[0][:60]!r}; declared {', '.join(declared) or 'none'}")
    if missing:
        raise ContractBreach(f"message {owner} lacks its field {missing[0]!r}")
    raise ContractBreach(f"message {owner} has its fields in another order than declared")


def _as_declared(owner: str, field: Field, entry: _Entry) -> None:
    """Refuses a row that is not of its field's kind and dtype, before any array is made of it."""
    if entry.tag == "none":
        good = field.optional
    elif field.spec is None:
        good = entry.tag == field.kind
    elif field.kind == "tensors":
        good = entry.tag == "tensors" and all(m.tag in field.spec.dtypes for m in entry.members)
    else:
        good = entry.tag in field.spec.dtypes
    if not good:
        tags: Mapping[str, None] = dict.fromkeys(m.tag for m in entry.members)
        found = f"a group of {', '.join(tags) or 'nothing'}" if entry.tag == "tensors" else entry.tag
        raise ContractBreach(f"{owner}.{field.name} is {found}; declared {field}")
