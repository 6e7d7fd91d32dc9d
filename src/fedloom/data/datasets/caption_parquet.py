"""Captioned pictures in parquet files: a column `image` (bytes, or a struct of bytes and path), a list `captions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.data.captioned import Captioned, PairReading, assemble_pairs, inside
from fedloom.data.io.decode import Source
from fedloom.data.io.files import need_file, need_folder
from fedloom.data.io.parquet import is_text, picture_of, read_table
from fedloom.data.names import composed
from fedloom.data.options import takes
from fedloom.data.pairs import PARTS, Pairs, Part
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput, unknown
from fedloom.tasks import ClientTask

LAYOUT = "{train,val,test}.parquet (or shards train-*.parquet, train_*.parquet) with columns image and captions"
Files = Mapping[Part, str | Sequence[str]]


@takes(PairReading)
def load(root: str | Path, *, files: Files | None = None, reading: PairReading) -> Pairs:
    """Read captioned pictures from parquet files, rows in order.

    Args:
        root: the folder that holds them (LAYOUT).
        files: names of each part's files, such as `{train: [train.parquet, val.parquet], test: extra.parquet}`, where
            they are not called after their parts.
        reading: the other options; images are uint8 (N, size, size, 3). Pairs.notes: see captioned.

    Raises:
        BadInput: a folder, file or picture is missing or broken; what read_caption_parquet finds.
    """
    base = need_folder(root, LAYOUT)
    found = shards(base) if files is None else named_files(base, files)
    if not found:
        raise BadInput(f"{base}: no parquet files. Expected layout: {LAYOUT}")
    return assemble_pairs("caption_parquet", read_caption_parquet(found), reading, {})


def named_files(root: Path, files: Files) -> dict[Part, list[Path]]:
    """The files that are named for each part. BadInput: an unknown part, a file that is missing or named twice."""
    if not isinstance(files, Mapping) or not files:
        raise BadInput(f"files={files!r}, allowed: the names of files for each of {', '.join(PARTS)}")
    found: dict[Part, list[Path]] = {}
    seen: dict[Path, str] = {}
    for part, names in files.items():
        if part not in PARTS:
            raise unknown("part of files", str(part), PARTS)
        for name in [names] if isinstance(names, str) else names:
            path = need_file(inside(root, str(name), f"files.{part}"), LAYOUT)
            if path in seen:
                raise BadInput(f"files.{part}: {name!r} is named for {seen[path]} already")
            seen[path] = part
            found.setdefault(part, []).append(path)
    return found


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
                listed[part].append(Captioned(_source(cell, path, place, seen), _captions(captions, place), place))
    return listed


def _rows(path: Path) -> list[tuple[Any, Any]]:
    columns, _ = read_table(path, {"image": None, "captions": (_is_list, "a list of strings")})
    return list(zip(columns["image"], columns["captions"]))


def _is_list(kind: Any) -> bool:
    """Whether a column of that type holds lists of texts."""
    import pyarrow as pa

    lists = (
        *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
        *(pa.types.is_list_view, pa.types.is_large_list_view),
    )
    return any(is_list(kind) for is_list in lists) and (pa.types.is_null(kind.value_type) or is_text(kind.value_type))


def _source(cell: Any, path: Path, place: str, seen: dict[str, str]) -> Source:
    """The picture of a cell: its bytes, or the file its path names beside the parquet file."""
    name = composed(str(cell.get("path") or "")) if isinstance(cell, dict) else ""
    if name and seen.setdefault(name, place) != place:
        raise BadInput(f"{place}: picture {name!r} is that of {seen[name]} already")
    return picture_of(cell, place, lambda _: inside(path.parent, name, place))


def _captions(cell: Any, place: str) -> list[tuple[None, str]]:
    captions = cell or []
    if not all(isinstance(caption, str) for caption in captions):
        raise BadInput(f"{place}: captions {str(captions)[:60]}, expected a list of strings")
    return [(None, caption) for caption in captions]


DATASET = Dataset(
    name="caption_parquet",
    summary="your own captioned pictures in parquet files",
    load=load,
    tasks=(ClientTask.RETRIEVAL,),
    captioned=True,
    layout="{train,val,test}.parquet (or shards, or files named by an option) with columns image and captions",
    source="yours",
    licence="yours",
)
