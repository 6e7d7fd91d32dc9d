"""Names in pictures, in whatever script they are: fonts that have their characters, or readable escapes.

matplotlib brings DejaVu Sans (Latin, Greek, Cyrillic, Arabic, Hebrew and others). Of other characters the first font
here that has them is used; one that no font has is written as its number, `<U+82B1>`. Nothing is drawn as an empty
box, and matplotlib has nothing to warn of. Text from right to left is laid out by matplotlib itself.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager, get_font

OWN = "DejaVu Sans"
_BOXES = "Last Resort"  # a font of boxes
_JOINERS = "\u200c\u200d"  # within a word they are part of its spelling
_BEGIN, _END = "\x01", "\x02"  # of an escape; no text has them, as controls are left out
_in_use: set[str] = set()  # families besides our own that characters so far have needed


def spelled(text: object, limit: int = 0) -> str:
    """`text` on one line, of characters that can be drawn; of at most `limit` columns when that is given, else cut.

    An ideograph takes two columns, an escape as many as it has characters.
    """
    line = " ".join(unicodedata.normalize("NFC", str(text)).split())
    tokens = [token for char in line if (token := _token(char))]
    whole = _joined(tokens)
    if not limit or columns(whole) <= limit:
        return whole
    while tokens and columns(_joined(tokens)) > limit - 1:
        tokens.pop()
    return _joined(tokens).rstrip() + "…"


def _joined(tokens: list[str]) -> str:
    """Escapes beside one another share their brackets: `<U+82B1 6735>`."""
    return "".join(tokens).replace(f"{_END}{_BEGIN}", " ").replace(_BEGIN, "<U+").replace(_END, ">")


def columns(text: str) -> int:
    """How wide `text` is, in columns."""
    return sum(map(_columns, text))


def not_drawn(texts: list[str]) -> list[str]:
    """The characters of `texts` that no installed font has, each once."""
    chars = dict.fromkeys(char for text in texts for char in unicodedata.normalize("NFC", text))
    return [char for char in chars if _token(char).startswith(_BEGIN)]


@contextmanager
def fonts() -> Iterator[list[str]]:
    """Within, new text is set in our own font, and in others what that lacks; gives these families."""
    families = [OWN, *(entry.name for entry in _others() if entry.name in _in_use)]
    settings: dict[str, Any] = {"font.family": families, "text.usetex": False, "text.parse_math": True}
    before = {name: mpl.rcParams[name] for name in settings}  # `rc_context` copies all, which takes longer than a text
    mpl.rcParams.update(settings)
    try:
        with _quiet():
            yield families
    finally:
        mpl.rcParams.update(before)


class _Errors(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR


@contextmanager
def _quiet() -> Iterator[None]:
    """matplotlib does not tell that a family has no bold."""
    log = logging.getLogger("matplotlib.font_manager")
    errors = _Errors()  # another level would clear what every logger of this process has found out about itself
    log.addFilter(errors)
    try:
        yield
    finally:
        log.removeFilter(errors)


@lru_cache(maxsize=65536)
def _token(char: str) -> str:
    """What stands for a character: itself, nothing, or an escape."""
    kind = unicodedata.category(char)
    if kind == "Cc" or 0xFE00 <= ord(char) <= 0xFE0F or (kind == "Cf" and char not in _JOINERS):
        return ""  # controls; among them those that turn the direction of what follows
    if kind != "Cs":  # half a character, as a file name that is not UTF-8 has
        if (home := _home(char)) is not None:
            _in_use.add(home)
            return char
        if char in _JOINERS:
            return ""
    return f"{_BEGIN}{ord(char):04X}{_END}"


def _columns(char: str) -> int:
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _home(char: str) -> str | None:
    """The family to take a character from."""
    if all(_file(OWN, weight).get_char_index(ord(char)) for weight in (400, 700)):
        return OWN
    return next((e.name for e in _others() if _draws(e, char)), None)


def _draws(entry: FontEntry, char: str) -> bool:
    """Whether both weights of that family have the character, as an outline: some emoji are pictures, which fail."""
    try:
        if not get_font(entry.fname).get_char_index(ord(char)):
            return False
        for weight in (400, 700):
            font = _file(entry.name, weight)
            font.set_size(10, 100)
            if not font.get_char_index(ord(char)) or not any(font.load_char(ord(char)).bbox):
                return False
    except (OSError, RuntimeError, ValueError):
        return False
    return True


def _file(family: str, weight: int) -> Any:
    with _quiet():
        return get_font(findfont(FontProperties(family=[family], weight=weight)))


@cache
def _others() -> tuple[FontEntry, ...]:
    """One entry a family, the plainest first: the same machine gives the same picture."""

    def rank(entry: FontEntry) -> tuple[bool, bool, bool, str, str]:
        name = entry.name.lower()
        return "sans" not in name, "mono" in name, entry.style != "normal", entry.name, str(entry.fname)

    found: dict[str, FontEntry] = {}
    for entry in sorted(fontManager.ttflist, key=rank):
        if entry.name != OWN and not entry.name.startswith((".", _BOXES)):
            found.setdefault(entry.name, entry)
    return tuple(found.values())
