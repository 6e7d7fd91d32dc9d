"""Labelled pictures in a parquet file, as the Hugging Face hub stores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedloom.data.io.decode import Source
from fedloom.data.io.files import on_disk
from fedloom.data.io.raw import Raw
from fedloom.data.names import alike, blank, by_name, numeric, position, spelled
from fedloom.errors import BadInput, listed
from fedloom.strict_json import parse


def read_table(
    path: Path, kinds: Mapping[str, tuple[Callable[[Any], bool], str] | None]
) -> tuple[dict[str, list[Any]], dict[bytes, bytes]]:
    """Columns of a parquet file as plain values, and the schema's metadata.

    Args:
        path: of the file.
        kinds: the columns to read; a test of the column's type and its name in words, or None for any.

    Raises:
        BadInput: truncated or no parquet file; a column missing (names those there are), there twice, or of a wrong
            type; a text that is not UTF-8 (with its row); no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as opened:  # not by its name, which need not be UTF-8
            file = pq.ParquetFile(opened)
            schema = file.schema_arrow
            for column, kind in kinds.items():
                _check_column(path, schema, column, kind)
            table = file.read(columns=list(kinds))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a complete parquet file: {reason}") from error
    if not table.num_rows:
        raise BadInput(f"{path}: no rows")
    return {column: _values(table[column], column, path) for column in kinds}, schema.metadata or {}


def _check_column(path: Path, schema: Any, column: str, kind: tuple[Callable[[Any], bool], str] | None) -> None:
    places = [n for n, name in enumerate(schema.names, start=1) if name == column]
    if not places:
        raise BadInput(f"{path}: no column {column!r}. Its columns: {listed(schema.names)}.")
    if len(places) > 1:
        numbers = " and ".join(map(str, places))
        raise BadInput(f"{path}: {len(places)} columns are called {column!r}, numbers {numbers}: rename all but one")
    if kind is not None and not kind[0](found := schema.field(column).type):
        raise BadInput(f"{path}: column {column!r} is {found}, allowed: {kind[1]}")


def _values(column: Any, name: str, path: Path) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        for row, cell in enumerate(column):
            try:
                cell.as_py()
            except UnicodeDecodeError as error:
                raise BadInput(f"{path} row {row}: column {name!r} is not UTF-8 text") from error
        raise


def is_text(kind: Any) -> bool:
    """Whether a column of that type holds text."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_label(kind: Any) -> bool:
    import pyarrow as pa

    return is_text(kind) or pa.types.is_integer(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _label_names(metadata: dict[bytes, bytes], path: Path) -> tuple[str, ...] | None:
    """Class names in the schema's metadata: `huggingface` (its features), or `label_names`, a JSON list."""
    try:
        if b"label_names" in metadata:
            names = parse(metadata[b"label_names"])
        else:
            features = parse(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
            names = features.get("label", {}).get("names")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path}: the label names in its metadata cannot be read: {error}") from error
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{path}: the label names in its metadata are no list of strings")
    by_name(names, f"{path}, label names in its metadata")
    return tuple(map(spelled, names))


def picture_of(cell: Any, place: str, file_of: Callable[[str], Path]) -> Source:
    """The picture of a cell: bytes, or a struct of bytes and path, else the file that its path alone names."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes) and content:
        return content
    if isinstance(cell, dict) and cell.get("path"):
        return file_of(str(cell["path"]))
    raise BadInput(f"{place}: no picture (expected bytes, or a struct of bytes and path)")


def referred(path: Path) -> list[Path]:
    """The picture files that a parquet file names where it holds no bytes of its own; none where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = {file.schema.column(i).path: i for i in range(len(file.schema))}
        if "image.path" not in columns or (
            (holds := columns.get("image.bytes")) is not None
            and all(
                (facts := file.metadata.row_group(group).column(holds).statistics) and facts.null_count == 0
                for group in range(file.metadata.num_row_groups)
            )
        ):
            return []
        cells = file.read(columns=["image.path"])["image"].to_pylist()
    except (pa.ArrowException, OSError, ValueError):
        return []
    return [path.parent / name for cell in cells if cell and (name := cell.get("path"))]


def read_parquet(path: Path) -> Raw:
    """Columns `image` and `label` of a parquet file, rows in order, numbered from 0.

    Where the file has a list of class names, its labels are names: those its numbers count.

    Raises:
        BadInput: what read_table finds; an empty cell, or a number that is not on the file's own list (with the row).
    """
    kinds = {"image": None, "label": (_is_label, "integer or string")}
    columns, metadata = read_table(path, kinds)
    places = [f"{path} row {row}" for row in range(len(columns["label"]))]
    names = _label_names(metadata, path)
    for label, place in zip(columns["label"], places):
        if label is None or blank(str(label)):
            raise BadInput(f"{place}: no label")
    labels = columns["label"] if names is None else _named(columns["label"], names, places)
    items = [picture_of(cell, place, partial(on_disk, path.parent)) for cell, place in zip(columns["image"], places)]
    return Raw(items, labels, places, [f"row {row}" for row in range(len(labels))], names)


def _named(labels: Sequence[str | int], names: Sequence[str], places: Sequence[str]) -> list[str]:
    """The labels as names of the file's own list, of which integers are indices."""
    known = {alike(name) for name in names}
    countable = not any(map(numeric, names))
    C = len(names)

    def name(label: str | int, place: str) -> str:
        number = position(str(label))
        in_range = number is not None and number < C
        if isinstance(label, str) and (alike(label) in known or not countable or not in_range):
            return label
        if number is None or not in_range:
            raise BadInput(
                f"{place}: unknown label {str(label)!r}: the file's own list has {C} names, allowed: 0..{C - 1}"
            )
        return names[number]

    return [name(label, place) for label, place in zip(labels, places)]
