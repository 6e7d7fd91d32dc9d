"""What everything read from outside is held to: messages, envelopes, JSON, YAML, options. One place, one measure.

    nesting     at most DEEPEST lists and groups within one another
    size        at most MOST_BYTES of one JSON document, unless the reader says otherwise
    numbers     finite, and none that a float could not hold
    texts       whole characters, and of control characters only newline and tab

A file name that is not UTF-8 is held by Python as halves of characters (U+DC80 to U+DCFF); where a reader takes such
names, these halves are allowed and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DEEPEST = 64
MOST_BYTES = 1 << 28
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but newline and tab
_HALVES = re.compile("[\ud800-\udfff]")
_OTHER_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # none of a file name


def text_problem(text: str, *, names: bool = False) -> str | None:
    """What is wrong with a text, in a few words, or None. names: allow the halves of file names."""
    if text.isprintable():
        return None
    if found := CONTROLS.search(text):
        return f"the control character {found[0]!a}, allowed: newline and tab"
    if (_OTHER_HALVES if names else _HALVES).search(text):
        return "half a character (a lone surrogate)"
    return None


def escaped(text: str) -> str:
    r"""`text` with control characters other than newline and tab written out, such as `\x1b`."""
    return text if text.isprintable() else CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def too_deep(value: Any) -> bool:
    """Whether more than DEEPEST lists and mappings lie within one another."""
    level = [value]
    for _ in range(DEEPEST):
        level = [part for node in level if _holds(node) for part in _parts(node)]
        if not level:
            return False
    return any(map(_holds, level))


def problem(value: Any, *, names: bool = False) -> str | None:
    """What is wrong with a tree of plain values, in a few words, or None: nesting, integers, texts.

    Whether NaN and infinity are allowed is for the reader to say, as YAML has words for them.
    """
    if too_deep(value):
        return f"nested too deeply, allowed: {DEEPEST} levels"
    todo: list[Any] = [value]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            if found := text_problem(node, names=names):
                return f"a text holds {found}"
        elif isinstance(node, int):
            if _too_large(node):
                return "too large a number"
        elif isinstance(node, Mapping):
            todo += [*node, *node.values()]
        elif isinstance(node, list | tuple):
            todo += node
    return None


def _too_large(value: int) -> bool:
    """Whether no float could hold this integer."""
    try:
        float(value)
    except OverflowError:
        return True
    return False


def _holds(node: Any) -> bool:
    return isinstance(node, list | tuple | Mapping)


def _parts(node: Any) -> Any:
    return node.values() if isinstance(node, Mapping) else node
