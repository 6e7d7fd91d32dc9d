"""JSON as it is meant: what `json.loads` lets pass, takes for something else, or overflows on is a ValueError here."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_HALF = re.compile(r"\\u[dD][89abAB]")  # half a character (a surrogate) can only come of an escape
_LONG = re.compile(r"\d{309}")  # of digits a float cannot have so many
_LONGEST = 60  # characters of a value that are shown


def parse(content: str | bytes, *, finite: bool = True, halves: bool = False) -> Any:
    """The value in a JSON text; bytes are UTF-8, with or without byte-order mark.

    Args:
        finite: refuse NaN, infinity and numbers too large for a float, as the standard does.
        halves: allow half a character in a text, which is how we write a file name that is not UTF-8.

    Raises:
        ValueError: with one line: no UTF-8, no JSON, a key twice in one object, half a character in a text, nested too
            deeply, not finite.
    """
    text = _decoded(content)
    options: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite} if finite else {}
    if finite and _LONG.search(text):
        options["parse_int"] = _not_too_long
    try:
        value = json.loads(text, object_pairs_hook=_each_once, **options)
        if not halves and _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    return value


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
