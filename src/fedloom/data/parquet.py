"""Labelled pictures in a parquet file, as the Hugging Face hub stores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedloom.data.decode import Source
from fedloom.data.raw import Raw
from fedloom.errors import BadInput


def _label_names(metadata: dict[bytes, bytes] | None, path: Path) -> tuple[str, ...] | None:
    """Class names in the schema's metadata: `huggingface` (its features), or `label_names`, a JSON list."""
    metadata = metadata or {}
    try:
        if b"label_names" in metadata:
            names = json.loads(metadata[b"label_names"])
        else:
            features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
            names = features.get("label", {}).get("names")
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{path}: the label names in its metadata cannot be read: {error}") from error
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{path}: the label names in its metadata are no list of strings")
    return tuple(names)


def _source(cell: Any, path: Path, row: int) -> Source:
    """The picture of a cell: bytes, or a struct of bytes and path (a path alone is relative to the file)."""
    if isinstance(cell, bytes) and cell:
        return cell
    if isinstance(cell, dict):
        if cell.get("bytes"):
            return bytes(cell["bytes"])
        if cell.get("path"):
            return path.parent / str(cell["path"])
    raise BadInput(f"{path} row {row}: no picture (expected bytes, or a struct of bytes and path)")


def read_parquet(path: Path) -> Raw:
    """Columns `image` and `label` of a parquet file, rows in order, numbered from 0.

    Raises:
        BadInput: truncated or no parquet file, a column missing (names those there are), of a wrong type, or
            an empty cell; no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        missing = [c for c in ("image", "label") if c not in schema.names]
        if missing:
            raise BadInput(f"{path}: no column {missing[0]!r}. Its columns: {', '.join(schema.names)}.")
        if not (pa.types.is_integer(schema.field("label").type) or _is_text(schema.field("label").type)):
            raise BadInput(
                f"{path}: column 'label' is {schema.field('label').type}, allowed: integer or string"
            )
        table = file.read(columns=["image", "label"])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a complete parquet file: {reason}") from error
    cells, labels = table["image"].to_pylist(), table["label"].to_pylist()
    if not labels:
        raise BadInput(f"{path}: no rows")
    for row, label in enumerate(labels):
        if label is None:
            raise BadInput(f"{path} row {row}: no label")
    places = [f"{path} row {row}" for row in range(len(labels))]
    items = [_source(cell, path, row) for row, cell in enumerate(cells)]
    return Raw(items, labels, places, _label_names(schema.metadata, path))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
