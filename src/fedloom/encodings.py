"""Text files are UTF-8. One that is not is named with the place of the first wrong byte and what it seems to be."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from fedloom.errors import BadInput

_MARKS = (  # byte-order marks; that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_OTHERS = (
    (b"PK\x03\x04", "an Excel workbook (.xlsx) or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a parquet file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
)
_BETWEEN = re.compile(r"[\s,;\"]")
_ADVICE = "Save it as UTF-8 text."


def decoded(path: Path, unit: str, number_of: Callable[[str], int]) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Args:
        path: of the file.
        unit: what its parts are called, 'line' or 'row'.
        number_of: from the text before a character to the number of the unit that the character is in.

    Raises:
        BadInput: it cannot be opened or is not UTF-8: the unit and the byte (from 0), and the encoding that it
            seems to have.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode(data, str(path), unit, number_of)


def decode(data: bytes, name: str, unit: str, number_of: Callable[[str], int]) -> str:
    """The same of a file that was read: `data`, which complaints call `name`."""
    for start, what in _MARKS:
        if data.startswith(start):
            raise BadInput(f"{name}: not UTF-8 but {what} text, by its first bytes. {_ADVICE}")
    for start, what in _OTHERS:
        if data.startswith(start):
            raise BadInput(f"{name}: not a text file but {what}, by its first bytes. {_ADVICE}")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at, before = error.start, data[: error.start].decode("utf-8").removeprefix("\ufeff")
        place = f"{unit} {number_of(before)}, byte {at} (0x{data[at]:02x})"
        raise BadInput(f"{name}: not UTF-8 text at {place}{_guess(data, at)}. {_ADVICE}") from error
    if (nul := text.find("\0")) >= 0:
        wide = data.count(0) * 3 >= len(data)
        what = "it seems to be UTF-16" if wide else "it seems to be no text file"
        raise BadInput(f"{name}: a NUL byte in {unit} {number_of(text[:nul])}; {what}. {_ADVICE}")
    return text


def _guess(data: bytes, at: int) -> str:
    """What the bytes around the first wrong one would say in the encoding that files of old are most often in."""
    if data[:4096].count(0) * 3 >= len(data[:4096]):
        return "; it seems to be UTF-16"
    if data.count(0):
        return "; it seems to be no text file"
    rest = data.decode("utf-8", "replace")
    if sum(not c.isascii() for c in rest) > 2 * rest.count("\ufffd"):
        return "; most of it is UTF-8: it is damaged, cut, or put together of two files"
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "; it has another encoding"
    before, after = data[max(0, at - 20) : at].decode("cp1252"), data[at : at + 20].decode("cp1252")
    word = _BETWEEN.split(before)[-1] + _BETWEEN.split(after)[0]
    return f"; it seems to be Windows-1252 (Latin-1), which says {word!r} there"
