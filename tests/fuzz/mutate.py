"""Damage of every kind: to bytes, to text, to JSON trees, to tables, to the files themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.inputs import Input, Special
from fuzz.odd_values import ODD_NUMBERS, ODD_TEXTS, ODD_VALUES, TOKENS

Damage = Callable[[Random, bytes], bytes]
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def _flip(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _set(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    piece = rng.choice(
        (
            b"\0",
            b"\xff",
            b"\x7f",
            b"\x80",
            b"\x01",
            rng.randbytes(1),
            rng.randbytes(4),
            b"\xff" * 4,
            b"\xff" * 8,
        )
    )
    return data[:at] + piece + data[at + len(piece) :]


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _behead(rng: Random, data: bytes) -> bytes:
    return data[rng.randrange(len(data)) :]


def _drop(rng: Random, data: bytes) -> bytes:
    a, b = _span(rng, data)
    return data[:a] + data[b:]


def _repeat(rng: Random, data: bytes) -> bytes:
    a, b = _span(rng, data)
    return data[:b] + data[a:b] * rng.choice((1, 1, 1, 2, 30)) + data[b:]


def _insert(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _move(rng: Random, data: bytes) -> bytes:
    a, b = _span(rng, data)
    rest = data[:a] + data[b:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + data[a:b] + rest[at:]


def _append(rng: Random, data: bytes) -> bytes:
    return data + rng.choice((rng.randbytes(9), b"\0" * 100, data, b"\n", b" ", b"{}", b"x"))


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    a = rng.randrange(len(data))
    return a, min(len(data), a + 1 + rng.randrange(rng.choice((4, 40, 400))))


def _number(rng: Random, data: bytes) -> bytes:
    found = list(_NUMBER.finditer(data[:100_000]))
    if not found:
        return _flip(rng, data)
    spot = rng.choice(found)
    new = rng.choice(ODD_NUMBERS)
    return (
        data[: spot.start()] + (str(new) if isinstance(new, float) else json.dumps(new)).encode() + data[spot.end() :]
    )


def _encoding(rng: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    coded = rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp1252", "shift_jis", "utf-7"))
    return text.encode(coded, "replace")


def _lines(rng: Random, data: bytes) -> bytes:
    """Lines that are missing, doubled, in another order, empty, or ended otherwise."""
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines.insert(at, b"")
        case 4:
            return rng.choice((b"\r\n", b"\r", b"\n\n")).join(lines)
        case _:
            rng.shuffle(lines)
    return b"\n".join(lines)


def _fields(rng: Random, data: bytes) -> bytes:
    """Fields of one line that are missing, doubled, changed or in another order."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    mark = rng.choice([m for m in (b",", b"\t", b"&", b"/", b" ") if m in lines[at]] or [b","])
    parts = lines[at].split(mark)
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    match rng.randrange(5):
        case 0:
            del parts[i]
        case 1:
            parts.insert(j, parts[i])
        case 2:
            parts[i], parts[j] = parts[j], parts[i]
        case 3:
            parts[i] = rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
        case _:
            parts[i] = b'"' + parts[i].replace(b'"', b'""') + rng.choice((b'"', b'"x', b"\n", b""))
    lines[at] = mark.join(parts)
    return b"\n".join(lines)


def _nest(rng: Random, data: bytes) -> bytes:
    """Brackets within brackets: what a parser without a limit overflows on."""
    depth = rng.choice((50, 5_000, 200_000))
    return rng.choice((b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth, b"- " * depth, b"(" * depth))


def _tree(rng: Random, data: bytes) -> bytes:
    """One node of a JSON document changed, dropped, doubled or moved; each line of JSON lines is a document."""
    lines = data.split(b"\n")
    full = [i for i, line in enumerate(lines) if line.strip().startswith((b"{", b"["))]
    try:
        return json_bytes(rng, change_tree(rng, json.loads(data)))
    except (ValueError, RecursionError):
        if not full:
            return _fields(rng, data)
    at = rng.choice(full)
    try:
        lines[at] = json_bytes(rng, change_tree(rng, json.loads(lines[at])))
    except (ValueError, RecursionError):
        return _fields(rng, data)
    return b"\n".join(lines)


def change_tree(rng: Random, tree: Any) -> Any:
    """`tree` with one node of it changed."""
    spots: list[tuple[Any, Any]] = []
    todo, seen = [tree], set[int]()
    while todo:
        node = todo.pop()
        if id(node) in seen:  # aliases of YAML: written out they would fill the memory
            continue
        seen.add(id(node))
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            spots.append((node, key))
            todo.append(node[key])
    if not spots or rng.random() < 0.03:
        return rng.choice(ODD_VALUES)
    node, key = rng.choice(spots)
    other, there = rng.choice(spots)
    match rng.randrange(7):
        case 0:
            del node[key]
        case 1 if isinstance(node, list):
            node.insert(key, json.loads(json.dumps(node[key])))
        case 2:
            node[key] = json.loads(json.dumps(other[there]))
        case 3 if isinstance(node, dict):
            node[rng.choice(ODD_TEXTS)] = node.pop(key)
        case 4 if isinstance(node[key], str):
            node[key] = _in_text(rng, node[key])
        case _:
            node[key] = rng.choice(ODD_VALUES)
    return tree


def _in_text(rng: Random, text: str) -> str:
    odd = rng.choice(ODD_TEXTS)
    return rng.choice(
        (
            text + odd,
            odd + text,
            text[: len(text) // 2] + odd + text[len(text) // 2 :],
            text.upper(),
            text[::-1],
        )
    )


def json_bytes(rng: Random, tree: Any) -> bytes:
    """A tree as JSON, now and then with a key that is given twice."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.15 and (found := list(re.finditer(r'"\w+": (?:\d+|"[^"]*")', text))):
        spot = rng.choice(found)[0]
        key = spot.partition(":")[0]
        text = text.replace(spot, f"{spot}, {key}: {rng.choice(('1', 'null', spot.partition(': ')[2]))}", 1)
    return text.encode("utf-8", "surrogatepass")


BYTES: tuple[Damage, ...] = (_flip, _set, _cut, _behead, _drop, _repeat, _insert, _move, _append)
TEXT: tuple[Damage, ...] = (
    _number,
    _encoding,
    _lines,
    _fields,
    _fields,
    _insert,
    _flip,
    _cut,
    _drop,
    _repeat,
)
TREE: tuple[Damage, ...] = (_tree, _tree, _tree, _tree, _number, _number, *TEXT)
_ENDINGS = {".json": TREE, ".jsonl": TREE, ".yaml": (*TEXT, _tree), ".csv": TEXT, ".tsv": TEXT, ".txt": TEXT}


def damaged(rng: Random, data: bytes, name: str) -> bytes:
    """`data` with one thing wrong in it, of the kinds that a file called `name` may have."""
    if not data:
        return rng.choice((b"\0", b"x", b"[]", rng.randbytes(20)))
    if rng.random() < 0.02:
        return _nest(rng, data)
    kinds = _ENDINGS.get("." + name.rpartition(".")[2], BYTES)
    return rng.choice(kinds)(rng, data)


def damaged_files(rng: Random, given: Input) -> Input:
    """The input with a file that is missing, empty, something else than a file, another's, or called otherwise."""
    name = rng.choice(list(given.files))
    other = rng.choice(list(given.files))
    match rng.randrange(8):
        case 0:
            return given.replace(name, None)
        case 1:
            return given.replace(name, b"")
        case 2:
            return given.replace(name, given.files[other])
        case 3:
            return given.replace(name, Special("folder"))
        case 4:
            return given.replace(name, Special("fifo"))
        case 5:
            return given.replace(
                name,
                Special("link", rng.choice(("gone", name.rpartition("/")[2], "/dev/zero", "/proc/self/mem", "."))),
            )
        case 6:
            folder, _, last = name.rpartition("/")
            odd = rng.choice(
                (
                    last.upper(),
                    f".{last}",
                    f"{last} ",
                    f"{last}\udcff",
                    f"é{last}",
                    f"e\u0301{last}",
                    "a" * 200,
                    f"{last}~",
                )
            )
            moved = given.replace(name, None)
            return moved.replace(f"{folder}/{odd}" if folder else odd, given.files[name])
        case _:
            return given.replace(f"{name}.d/{rng.choice(('x', '.hidden', 'Thumbs.db', 'é'))}", rng.randbytes(9))
