"""What lies at a path: which data set's layout, and which options its reader needs for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.data.io.files import folders
from fedloom.data.io.layout import LAYOUT, NAMES, locate
from fedloom.data.io.walk import told
from fedloom.errors import BadInput, is_text
from fedloom.scaffolding.columns import guess

# Data sets in their official layout, by what lies in their folder and in no other.
OFFICIAL: dict[str, Callable[[Path], bool]] = {
    "cremad": lambda p: (p / "AudioWAV").is_dir() or (p / "AudioMP3").is_dir(),
    "ave": lambda p: (p / "Annotations.txt").is_file() and (p / "trainSet.txt").is_file(),
    "crisismmd": lambda p: (p / "data_image").is_dir(),
    "audio_visual_digits": lambda p: (p / "train.npz").is_file() and (p / "test.npz").is_file(),
    "flowers102": lambda p: (p / "imagelabels.mat").is_file(),
    "food101_recipes": lambda p: (p / "recipes_train.csv").is_file(),
    "upmc_food101": lambda p: (p / "texts" / "train_titles.csv").is_file(),
    "food101": lambda p: (p / "meta" / "classes.txt").is_file(),
    "cifar100": lambda p: (p / "cifar-100-binary").is_dir() or (p / "cifar-100-python").is_dir(),
    "ag_news": lambda p: (p / "train.csv").is_file() and (p / "classes.txt").is_file(),
}
PAIRS: dict[str, Callable[[Path], bool]] = {
    "flickr30k": lambda p: (p / "dataset_flickr30k.json").is_file(),
    "flickr8k": lambda p: (p / "Flickr8k.token.txt").is_file(),
    "coco": lambda p: (p / "dataset_coco.json").is_file() or (p / "annotations").is_dir(),
}


@dataclass(frozen=True)
class Place:
    """A data set's name, root and options, and what is to be said of how they were found."""

    name: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def tree(self) -> dict[str, Any]:
        """As `data` in a configuration."""
        root = {} if self.root is None else {"root": self.root}
        return {"name": self.name, **root, **({"options": self.options} if self.options else {})}


def look(path: Path) -> Place:
    """What can be read at `path`: a folder, a CSV file or a parquet file. Raises BadInput where nothing can."""
    whole = Path(os.path.abspath(path.expanduser()))
    if not is_text(str(whole)):
        raise BadInput(f"{told(whole)}: its name is no text in UTF-8, so no configuration can hold it; rename it")
    if whole.is_file():
        return _file(whole)
    if not whole.is_dir():
        raise BadInput(f"{path}: there is no such file or folder")
    for name, fits in OFFICIAL.items():
        if fits(whole):
            return Place(name, str(whole), said=(f"the layout of {name}",))
    for name, fits in PAIRS.items():
        if fits(whole):
            return _pairs(name, whole)
    return _folder(whole)


def _pairs(name: str, folder: Path) -> Place:
    """Pictures with captions, and in want of another the same set as the public one."""
    part = {"name": name, "root": str(folder)}
    said = f"pictures with captions ({name}); the public set of pairs is the same one until you name another"
    return Place("mixed", None, {"pair": part, "public": dict(part)}, (said,))


def _file(path: Path) -> Place:
    if path.suffix.lower() in (".parquet", ".pq"):
        columns = _parquet_columns(path)
        if {"image", "captions"} <= columns:
            raise BadInput(f"{path}: pictures with captions: give the folder that holds train.parquet and test.parquet")
        return Place("folder", None, {"images_train": str(path)}, ("a parquet file of pictures",))
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _with_columns(Place("folder", None, {"texts_train": str(path)}), path)
    raise BadInput(f"{path}: expected a folder, a .csv file of texts or a .parquet file of pictures")


def _parquet_columns(path: Path) -> set[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as opened:
            return set(pq.ParquetFile(opened).schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: no complete parquet file: {str(error).splitlines()[0]}") from None


def _folder(folder: Path) -> Place:
    tables = sorted(folder.glob("*.parquet"))
    if any({"image", "captions"} <= _parquet_columns(path) for path in tables):
        return _pairs("caption_parquet", folder)
    try:
        where, _ = locate(folder, dict.fromkeys(("images_train", "images_test", "texts_train", "texts_test")), False)
    except BadInput as error:
        if "neither images nor texts" not in str(error):
            raise
        return _unusual(folder)
    place = Place("folder", str(folder))
    if "images_train" in where and "texts_train" not in where and (other := _csv(folder)):
        images = {k: os.path.relpath(p, folder) for k, p in where.items()}
        return _with_columns(Place("folder", str(folder), images | other), folder / other["texts_train"])
    return _with_columns(place, where["texts_train"]) if "texts_train" in where else place


def _unusual(folder: Path) -> Place:
    """Class folders without a folder around them, and tables of other names."""
    options: dict[str, Any] = _csv(folder)
    said = tuple(f"texts in {name}" for name in options.values())
    if folders(folder):
        options |= {"images_train": "."}
        said += ("class folders",)
    if not options:
        raise BadInput(f"{told(folder)}: nothing that can be read. Expected layout: {LAYOUT}")
    place = Place("folder", str(folder), options, said)
    return _with_columns(place, folder / options["texts_train"]) if "texts_train" in options else place


def _csv(folder: Path) -> dict[str, str]:
    """Tables of texts under other names: one alone, or those whose names say train and test."""
    files = [p for ending in (".csv", ".tsv") for p in sorted(folder.glob(f"*{ending}")) if p.is_file()]
    parts = {
        part: [p.name for p in files if any(name in p.stem.lower() for name in NAMES[part])]
        for part in ("train", "test")
    }
    if len(parts["train"]) == 1:
        test = {"texts_test": parts["test"][0]} if len(parts["test"]) == 1 else {}
        return {"texts_train": parts["train"][0]} | test
    return {"texts_train": files[0].name} if len(files) == 1 else {}


def _with_columns(place: Place, table: Path) -> Place:
    """The place with the names of the table's columns, where they are not the usual ones."""
    columns = guess(table)
    if columns.usual:
        return place
    named = {"text_column": columns.text, "label_column": columns.label}
    said = f"texts are column {columns.text!r} of {table.name}, classes {columns.label!r}"
    return Place(place.name, place.root, place.options | named, (*place.said, said))
