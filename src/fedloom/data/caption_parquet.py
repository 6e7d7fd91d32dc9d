"""Captioned pictures in parquet files: a column `image` (bytes, or a struct of bytes and path), a list `captions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloom.data.captioned import Captioned, inside
from fedloom.data.decode import Source
from fedloom.data.pairs import PARTS, Part
from fedloom.errors import BadInput

LAYOUT = (
    "{train,val,test}.parquet (or shards train-*.parquet, train_*.parquet) with columns image and captions"
)


def shards(root: Path) -> dict[Part, list[Path]]:
    """The files of each part, in order of name; parts without any are left out."""
    found: dict[Part, list[Path]] = {
        part: [*root.glob(f"{part}.parquet"), *sorted(root.glob(f"{part}[-_]*.parquet"))] for part in PARTS
    }
    return {part: files for part, files in found.items() if files}


def read_caption_parquet(files: dict[Part, list[Path]]) -> dict[Part, list[Captioned]]:
    """The pictures of each part, rows in order.

    Raises:
        BadInput: truncated or no parquet file; a column missing (names those there are) or of a wrong type; a row
            without picture or captions; two rows of one path.
    """
    seen: dict[str, str] = {}
    listed: dict[Part, list[Captioned]] = {}
    for part, paths in files.items():
        listed[part] = []
        for path in paths:
            for row, (cell, captions) in enumerate(_rows(path)):
                place = f"{path} row {row}"
                listed[part].append(
                    Captioned(_source(cell, path, place, seen), _captions(captions, place), place)
                )
    return listed


def _rows(path: Path) -> list[tuple[Any, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        for column in ("image", "captions"):
            if column not in schema.names:
                raise BadInput(f"{path}: no column {column!r}. Its columns: {', '.join(schema.names)}.")
        kind = schema.field("captions").type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            raise BadInput(f"{path}: column 'captions' is {kind}, allowed: a list of strings")
        table = file.read(columns=["image", "captions"])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not a complete parquet file: {reason}") from error
    return list(zip(table["image"].to_pylist(), table["captions"].to_pylist()))


def _source(cell: Any, path: Path, place: str, seen: dict[str, str]) -> Source:
    """The picture of a cell: its bytes, or the file its path names beside the parquet file."""
    if isinstance(cell, bytes) and cell:
        return cell
    if isinstance(cell, dict):
        name = str(cell.get("path") or "")
        if name and seen.setdefault(name, place) != place:
            raise BadInput(f"{place}: picture {name!r} is that of {seen[name]} already")
        if cell.get("bytes"):
            return bytes(cell["bytes"])
        if name:
            return inside(path.parent, name, place)
    raise BadInput(f"{place}: no picture (expected bytes, or a struct of bytes and path)")


def _captions(cell: Any, place: str) -> list[tuple[None, str]]:
    captions = cell or []
    if not all(isinstance(caption, str) for caption in captions):
        raise BadInput(f"{place}: captions {str(captions)[:60]}, expected a list of strings")
    return [(None, caption) for caption in captions]
