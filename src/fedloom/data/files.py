"""Files and tables of a data set on disk: every complaint names the file, and what it should hold."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, nearest

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
LIMIT = 10_000_000  # characters in one CSV field; the csv module's own limit, 131 072, is below a long report


def readable(name: str) -> str:
    """A class name as people and text encoders read it: `apple_pie` is `apple pie`."""
    return " ".join(name.replace("_", " ").split())


def need_folder(path: str | Path, layout: str) -> Path:
    """The folder at `path`, or BadInput that says which layout was expected."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise BadInput(f"{folder}: {what}. Expected layout: {layout}")
    return folder


def need_file(path: str | Path, layout: str) -> Path:
    """The file at `path`, or BadInput that says which layout was expected."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise BadInput(f"{file}: there is no such file. Expected layout: {layout}")
    return file


def folders(path: Path) -> list[Path]:
    """Sub-folders in order of name, without hidden ones and the leftovers of archives."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def pictures(path: Path) -> list[Path]:
    """Picture files straight inside `path` in order of name, by their ending."""
    return sorted(
        p
        for p in path.iterdir()
        if p.suffix.lower() in PICTURES and p.is_file() and not p.name.startswith(".")
    )


def read_text(path: Path) -> str:
    """A UTF-8 file (a byte-order mark is allowed)."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text (byte {error.start})") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, stripped, without the empty ones."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json(path: Path) -> Any:
    """A JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not JSON (line {error.lineno}: {error.msg})") from error


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with their numbers as a spreadsheet shows them: from 1, quoted line breaks add none.

    Raises:
        BadInput: not UTF-8, or not CSV (with the line).
    """
    number = 0
    csv.field_size_limit(LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, strict=True), start=1):
                if row:
                    yield number, row
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text after row {number}") from error
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV after row {number}: {error}") from error


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Rows of a CSV file with a header, cut down to `columns`: (row number, values). The header is row 1.

    Raises:
        BadInput: no header, a column that is not there (names those that are), a row too short, no rows.
    """
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    for column in columns:
        if column not in header:
            has = ", ".join(header) or "none"
            raise BadInput(f"{path}: no column {column!r}.{nearest(column, header)} Its columns: {has}.")
    at = [header.index(column) for column in columns]
    table = []
    for number, row in rows:
        if len(row) <= max(at):
            raise BadInput(f"{path} row {number}: {len(row)} fields, the header has {len(header)}")
        table.append((number, tuple(row[i] for i in at)))
    if not table:
        raise BadInput(f"{path}: no rows below the header")
    return table
