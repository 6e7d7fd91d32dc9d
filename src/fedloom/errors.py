"""The errors that a person can mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
import errno
import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 80  # characters of a wrong value that are shown, and compared
MOST = 60  # allowed names that are listed
_ENDLESS = re.compile(r"\S{1000,}")  # no path and no word, but what somebody took for one


class FedloomError(Exception):
    """A run could not go on (exit code 1). The message is one line that names what and where."""

    def __str__(self) -> str:
        line = printable(" ".join(super().__str__().splitlines()))
        return _ENDLESS.sub(lambda found: f"{found[0][:LONGEST]}...", line)


class BadInput(FedloomError, ValueError):
    """Something given from outside is wrong (exit code 2): one line with the thing, its value and what is allowed."""


class OutOfTime(FedloomError):
    """The time that was given for training is over; what is done is kept."""


_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (?:28|122)\b|file write failed")


def disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of room; libraries say so in errors of their own."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, Exception) and bool(_FULL.search(str(error)))


def first_line(error: Exception) -> str:
    """What a library says, on one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    r"""`text` with control characters, and the bytes of a name that is not UTF-8, escaped.

    Python holds such a byte as half a character (`\udce9`), which no encoding writes; it is shown as `\xe9`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs") else _escaped(c) for c in text)


def is_text(name: str) -> bool:
    """Whether `name` can be written as UTF-8: a file's name in another encoding cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode: the byte is the lower half
        return f"\\x{code & 0xFF:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def check_list(**given: object) -> None:
    """Raises BadInput for an argument that is one text or number where a list is expected; None is no list given."""
    for name, value in given.items():
        if value is not None and (isinstance(value, (str, bytes)) or not isinstance(value, Iterable)):
            raise BadInput(f"{name} = {value!r}: expected a list, such as [{value!r}]")


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
    shown = repr(_short(name))
    hint = nearest(name, names)
    if hint and not name.isascii():  # letters that look alike: Latin a and Cyrillic a, composed and decomposed
        shown += f" ({name[:LONGEST]!a})"
    return BadInput(f"unknown {kind} {shown}.{hint} Allowed: {listed(names)}.")


def listed(names: Sequence[str]) -> str:
    """The names with commas between; of many only the first, of long ones only the beginning."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(map(_short, names[:MOST])) + more


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
