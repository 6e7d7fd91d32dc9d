"""Tables in text files: CSV with or without a header, and tab-separated values.

A row has as many fields as the header. One more is allowed if it is empty (a comma at the end of the line) and the last
column is one that cannot be: else it may be the empty last column, behind a text with a comma. A header names each
column that is asked for once. Rows are counted from 1 as a spreadsheet shows them, the header included;
quoted line breaks add none.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fedloom.data.io.files import numbered_lines
from fedloom.data.names import blank, spelled
from fedloom.encodings import decoded
from fedloom.errors import BadInput, listed, nearest

_QUOTED = re.compile(r'\s+"[^"]*"\s*')
LIMIT = 10_000_000  # characters in one CSV field; the csv module's own limit, 131 072, is below a long report
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
Rows = list[tuple[int, tuple[str, ...]]]


def read_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with their numbers; empty ones are counted and left out.

    Raises:
        BadInput: not UTF-8, or not CSV (with the row).
    """
    text = decoded(path, "row", lambda before: _count(before + "x", delimiter))
    return _rows(path, text, delimiter)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    number = 0
    csv.field_size_limit(LIMIT)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        for number, row in enumerate(reader, start=1):
            for field in row:
                if field[:1] == " " and _QUOTED.fullmatch(field):
                    raise BadInput(
                        f"{path} row {number}: a blank before the quote of {field.strip()[:40]}, which is then part of "
                        "the text: leave out the blanks after the separators"
                    )
            if len(row) > 1 or (row and row[0].strip()):
                yield number, row
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV after row {number}: {error}") from error


def _count(text: str, delimiter: str) -> int:
    csv.field_size_limit(LIMIT)
    try:
        return sum(1 for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:  # a field without end
        return text.count("\n") + 1


def read_fields(path: Path, fields: Sequence[str], filled: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file without a header, which must hold as many fields as `fields` names.

    filled: whether the last of them is never empty.

    Raises:
        BadInput: as read_rows; a row of another number of fields.
    """
    for number, row in read_rows(path):
        if not _fits(row, len(fields), filled):
            found = f"{len(row)} field{'s' * (len(row) != 1)}, expected {len(fields)}: {', '.join(fields)}"
            raise BadInput(f"{path} row {number}: {found}{_hint(row, len(fields))}")
        yield number, row[: len(fields)]


def _fits(row: Sequence[str], fields: int, filled: bool) -> bool:
    """Whether a row has so many fields; or one more that is empty, where the one before is always `filled`."""
    return len(row) == fields or (filled and len(row) == fields + 1 and not row[-1].strip())


def _hint(row: Sequence[str], fields: int) -> str:
    """What may be wrong with a row of another number of fields."""
    if len(row) > fields:
        return ' (a text that holds the separator must be in "quotes")'
    for delimiter, name in DELIMITERS.items():
        if len(row) == 1 and row[0].count(delimiter) == fields - 1:
            return f" (is it separated by a {name}?)"
    return ""


def read_columns(path: Path, columns: Sequence[str]) -> Rows:
    """Rows of a CSV file with a header, cut down to `columns`: (row number, values).

    Fields are separated by commas, or by semicolons or tabs where the header is.

    Raises:
        BadInput: no header, a column that is not there (names those that are) or is there twice, a row of another
            number of fields, no rows; what read_rows finds.
    """
    text = decoded(path, "row", lambda before: _count(before + "x", _delimiter(before, columns)))
    delimiter = _delimiter(text, columns)
    rows = list(_rows(path, text, delimiter))
    table = _cut(path, "row", rows, columns)
    _check_quotes(path, rows, [spelled(name) for name in rows[0][1]], columns, delimiter)
    return table


def _check_quotes(
    path: Path, rows: list[tuple[int, list[str]]], header: list[str], columns: Sequence[str], delimiter: str
) -> None:
    """Raises BadInput where a text in quotes holds rows of the table: a quote is missing, or one is too many.

    A line within a text is taken for a row when it has as many fields as the header and in one of the columns what
    another row has there, such as its label.
    """
    long = [(number, field) for number, row in rows for field in row if "\n" in field]
    if not long or len(header) < 2:
        return
    at = [header.index(spelled(column)) for column in columns]
    known = {i: {row[i].strip() for _, row in rows[1:] if i < len(row) and row[i].strip()} for i in at}
    for number, field in long:
        for line in field.splitlines()[1:-1]:
            parts = next(csv.reader([line], delimiter=delimiter), [])
            if len(parts) == len(header) and any(parts[i].strip() in known[i] for i in at):
                raise BadInput(
                    f"{path} row {number}: a text in quotes holds the line {line[:60]!r}, which looks like a row: is a "
                    "quote missing, or one too many?"
                )


def read_tabbed(path: Path, columns: Sequence[str]) -> Rows:
    """Rows of a tab-separated file with a header, as read_columns; quotes are text, as tweets hold them, and every line
    of the file is a row (`line` in messages)."""
    lines = ((number, line.split("\t")) for number, line in numbered_lines(path))
    return _cut(path, "line", lines, columns)


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """What separates the names in the header: a comma, unless only another one makes the columns appear."""
    for delimiter in DELIMITERS:
        try:
            _, header = next(_rows(Path(), text, delimiter), (0, []))
        except BadInput:
            continue
        if {spelled(column) for column in columns} <= {spelled(name) for name in header}:
            return delimiter
    return ","


def _cut(path: Path, unit: str, rows: Iterable[tuple[int, Sequence[str]]], columns: Sequence[str]) -> Rows:
    rows = iter(rows)
    _, header = next(rows, (0, []))
    header = [spelled(name) for name in header]
    at = [_column(path, header, column) for column in columns]
    filled = len(header) - 1 in at
    table = []
    for number, row in rows:
        if not _fits(row, len(header), filled):
            if all(blank(field) for field in row):
                continue  # what spreadsheets leave at the end
            found = f"{len(row)} field{'s' * (len(row) != 1)}, the header has {len(header)}"
            hint = _hint(row, len(header)) if unit == "row" else ""
            raise BadInput(f"{path} {unit} {number}: {found}{hint}")
        if [spelled(field) for field in row[: len(header)]] == header:
            raise BadInput(f"{path} {unit} {number}: the header again. Were two files put together?")
        table.append((number, tuple(row[i] for i in at)))
    if not table:
        raise BadInput(f"{path}: no rows below the header")
    return table


def _column(path: Path, header: Sequence[str], column: str) -> int:
    """The position of a column. BadInput: it is not there, or there twice."""
    places = [n for n, name in enumerate(header, start=1) if name == spelled(column)]
    if not places:
        has = listed(header) or "none"
        raise BadInput(f"{path}: no column {column!r}.{nearest(column, header)} Its columns: {has}.")
    if len(places) > 1:
        numbers = f"{', '.join(map(str, places[:-1]))} and {places[-1]}"
        raise BadInput(f"{path}: {len(places)} columns are called {column!r}, numbers {numbers}: rename all but one")
    return places[0] - 1
