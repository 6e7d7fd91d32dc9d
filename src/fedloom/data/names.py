"""One rule for the names of classes and columns, wherever they come from: folders, tables, lists, options, silos.

    spelled     what is kept: composed characters (NFC, which macOS's folders are not), no invisible characters such as
                a zero-width space, any run of white space (a no-break space too) one blank, none at the ends
    readable    what people and text encoders see: the same, and `_` a blank
    alike       what is compared: the same, in lower case

So names that differ invisibly are one name. Names that differ by case or `_` are one name in a reference to a list of
classes, and may not stand side by side on it. Nothing else is changed: `NA`, `null`, `01` and `1e3` stay as written.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from fedloom.errors import BadInput, is_text

# Zero-width space, joins of words, soft hyphen, marks of direction, byte-order mark. The two joiners (U+200C, U+200D)
# stay: they are part of words, as in Persian, and of pictographs.
_INVISIBLE = dict.fromkeys([0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x2060, 0x2065), 0xFEFF])
_INVISIBLE |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")  # and what makes a sign a coloured picture


def spelled(name: str) -> str:
    """A name as it is kept (see above)."""
    if name.isascii():
        return " ".join(name.split())
    return " ".join(unicodedata.normalize("NFC", name.translate(_INVISIBLE)).split())


def composed(name: str) -> str:
    """The name of a file for comparison: accents in one piece with their letters (NFC), nothing else changed."""
    return unicodedata.normalize("NFC", name)


def readable(name: str) -> str:
    """A class name as people and text encoders read it: `apple_pie` is `apple pie`."""
    return spelled(name.replace("_", " "))


def alike(name: str) -> str:
    """What two names of one class have in common."""
    plain = readable(name).lower()
    if plain.isascii():
        return plain
    return unicodedata.normalize("NFC", "".join(c for c in plain if c not in _JOINERS))


def blank(text: str) -> bool:
    """Whether there is nothing to see in `text`."""
    return not text.translate(_INVISIBLE).strip()


def position(text: str) -> int | None:
    """The number that `text` is the usual spelling of, from 0; None for any other, such as `01`, `1.0` or `-1`."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        return None
    return int(text) if text == str(int(text)) else None


def numeric(text: str) -> bool:
    """Whether `text` is nothing but digits."""
    return text.isascii() and text.isdecimal()


def by_name(names: Sequence[str], where: str = "") -> dict[str, int]:
    """The position of each name of a list of classes, under what is `alike`.

    Args:
        names: of classes, in order.
        where: the file or folder, for messages.

    Raises:
        BadInput: a name that is empty, no text, holds control characters, or is alike another one.
    """
    at: dict[str, int] = {}
    start = f"{where}: " if where else ""
    for n, name in enumerate(names):
        check_name(name, f"{start}class name {n + 1} of {len(names)}")
        if (first := at.setdefault(alike(name), n)) != n:
            if spelled(names[first]) == spelled(name):
                raise BadInput(f"{start}class name {spelled(name)!r} is given twice, as number {first + 1} and {n + 1}")
            raise BadInput(f"{start}class names {names[first]!r} and {name!r} differ only by case, space or underscore")
    return at


def check_name(name: str, place: str) -> None:
    """Raise BadInput, which begins with `place`, where `name` cannot be the name of a class."""
    if not alike(name):
        raise BadInput(f"{place} is {'empty' if blank(name) else f'{name[:80]!r}: nothing to read in it'}")
    if not is_text(name):
        raise BadInput(f"{place}, {name!r}, is not UTF-8 text: rename it")
    if any(unicodedata.category(c) == "Cc" for c in spelled(name)):
        raise BadInput(f"{place}, {name[:80]!r}, holds a control character")


def merged(names: Iterable[str]) -> tuple[str, ...]:
    """The names as they are spelled, each once, in order: digits by their value, before all others."""
    return tuple(sorted({spelled(name) for name in names}, key=_order))


def _order(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if numeric(name) and len(name) < 19 else (1, 0, name)
