"""The errors that a person can mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

LONGEST = 80  # characters of a wrong value that are shown, and compared
MOST = 60  # allowed names that are listed


class FedloomError(Exception):
    """A run could not go on (exit code 1). The message is one line that names what and where."""

    def __str__(self) -> str:
        return printable(super().__str__())


class BadInput(FedloomError, ValueError):
    """Something given from outside is wrong (exit code 2): one line with the thing, its value and what is allowed."""


def printable(text: str) -> str:
    r"""`text` with control characters, and the bytes of a name that is not UTF-8, escaped.

    Python holds such a byte as half a character (`\udce9`), which no encoding writes; it is shown as `\xe9`.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs") else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode: the byte is the lower half
        return f"\\x{code & 0xFF:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`' Did you mean x?'` for the closest allowed name, whatever its case, or `''` when none is close."""
    plain: dict[str, str] = {}
    for candidate in allowed:
        plain.setdefault(_plain(candidate), candidate)
    close = difflib.get_close_matches(_plain(name[:LONGEST]), list(plain), n=1, cutoff=0.5)
    return f" Did you mean {plain[close[0]]!r}?" if close else ""


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def unknown(kind: str, name: str, allowed: Iterable[str]) -> BadInput:
    """The error for a name that is not on a list: says the nearest one and the whole list, if it is not too long."""
    names = sorted(allowed)
    shown = repr(name) if len(name) <= LONGEST else f"{name[:LONGEST]!r}..."
    hint = nearest(name, names)
    if (
        hint and not name.isascii()
    ):  # letters that look alike: Latin a and Cyrillic a, composed and decomposed
        shown += f" ({name[:LONGEST]!a})"
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return BadInput(f"unknown {kind} {shown}.{hint} Allowed: {', '.join(names[:MOST])}{more}.")
