"""Which column of a table holds the texts, and which the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from fedloom.data.io.tables import DELIMITERS, read_rows
from fedloom.errors import BadInput, listed

# Usual names, the likelier ones first.
TEXT = (
    *("text", "texts", "sentence", "content", "body", "message", "review", "comment", "tweet", "report"),
    *("finding", "findings", "description", "question", "caption", "title", "headline", "document", "note"),
)
LABEL = (
    *("label", "labels", "class", "classes", "category", "target", "diagnosis", "topic", "sentiment", "y"),
    *("class_name", "label_name", "label_text", "intent", "genre", "type", "group", "species", "name"),
)
ROWS = 2000  # looked at, at most


class Columns(NamedTuple):
    """The names of two columns."""

    text: str
    label: str

    @property
    def usual(self) -> bool:
        """Whether they are called what the reader expects."""
        return self == ("text", "label")


def guess(path: Path) -> Columns:
    """The column of texts and that of classes in a CSV file: by their names, else by what they hold.

    A class stands in several rows; texts are the longest of the other columns.

    Raises:
        BadInput: no such columns; names those that there are.
    """
    header, rows = _head(path)
    by_name = {name.strip().lower(): name for name in reversed(header)}
    label = next((by_name[name] for name in LABEL if name in by_name), None)
    text = next((by_name[name] for name in TEXT if name in by_name and by_name[name] != label), None)
    values = {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}
    if text is None:
        others = [n for n in header if n != label and not _numbers(values[n])]
        text = max(others, key=lambda n: fmean(map(len, values[n])), default=None)
    if label is None:
        few = [n for n in header if n != text and len(set(values[n])) <= max(2, len(rows) // 3) and "" not in values[n]]
        label = min(few, key=lambda n: len(set(values[n])), default=None)
    if text is None or label is None:
        lacking = "texts" if text is None else "classes"
        raise BadInput(
            f"{path}: no column that looks like {lacking}; its columns: {listed(header)}. Write the configuration "
            "with data.options.text_column and label_column by hand"
        )
    return Columns(text, label)


def _numbers(values: Sequence[str]) -> bool:
    return all(value.replace(".", "", 1).removeprefix("-").isdecimal() for value in values if value)


def _head(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV file, separated by whatever gives most columns, and its first whole rows."""
    header: list[str] = []
    best = ","
    for delimiter in DELIMITERS:
        try:
            _, found = next(read_rows(path, delimiter), (0, []))
        except BadInput:
            if delimiter == ",":
                raise
            continue
        if len(found) > len(header):
            header, best = [name.strip() for name in found], delimiter
    rows = [row for n, (_, row) in enumerate(read_rows(path, best)) if 0 < n <= ROWS and len(row) == len(header)]
    if len(header) < 2 or not rows:
        raise BadInput(f"{path}: expected a table with a header, a column of texts and one of classes")
    return header, rows
