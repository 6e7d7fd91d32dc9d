"""JSON as it is meant: what `json.loads` lets pass, takes for something else, or overflows on is a ValueError here."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from fedloom.outside import DEEPEST, MOST_BYTES, problem, too_deep

# What texts may hold that they should not: in JSON it can only come of an escape, or is one of these characters.
_ODD = re.compile(r"[\x7f-\x9f]|\\(?:[bfr]|u(?:00[01789]|[dD][89abAB]))")
_LONG = re.compile(r"\d{309}")  # of digits a float cannot have so many
_DEEP = f"nested too deeply, allowed: {DEEPEST} levels"
_LONGEST = 60  # characters of a value that are shown


def parse(
    content: str | bytes, *, finite: bool = True, halves: bool = False, own: bool = False, most: int = MOST_BYTES
) -> Any:
    """The value in a JSON text; bytes are UTF-8, with or without byte-order mark.

    Args:
        finite: refuse NaN, infinity and numbers with a point that are too large for a float, as the standard does;
            integers too large for a float are always refused.
        halves: allow the halves of characters in which a file name that is not UTF-8 is written.
        own: this process, or one like it, wrote the texts, and they may hold anything.
        most: bytes.

    Raises:
        ValueError: with one line: too long, no UTF-8, no JSON, a key twice in one object, nested too deeply, not
            finite, a text that holds what none may (`fedloom.outside`).
    """
    if len(content) > most:
        raise ValueError(f"{len(content)} bytes, allowed: {most}")
    text = _decoded(content)
    try:
        value = json.loads(text, object_pairs_hook=_each_once, **number_hooks(text, finite=finite))
    except RecursionError:
        raise ValueError(_DEEP) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    if text.count("[") + text.count("{") > DEEPEST and too_deep(value):
        raise ValueError(_DEEP)
    if not own and _ODD.search(text) and (wrong := problem(value, names=halves)):
        raise ValueError(wrong)
    return value


def number_hooks(text: str, *, finite: bool = True) -> dict[str, Any]:
    """What `json.loads` is to be given to refuse numbers in `text` as `parse` does, with a ValueError."""
    options: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite} if finite else {}
    return options | {"parse_int": _not_too_long} if _LONG.search(text) else options


def _decoded(content: str | bytes) -> str:
    try:
        return (content.encode() if isinstance(content, str) else content).decode("utf-8-sig")
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        raise ValueError(f"not UTF-8 text ({'byte' if isinstance(content, bytes) else 'character'} {start})") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:_LONGEST]!a} is given twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _not_too_long(number: str) -> int:
    _finite(number)
    return int(number)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:_LONGEST]} is too large a number")
    return value
