"""A silo's own data: an image folder or a parquet file, and CSV files of texts, over one list of classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedloom.data.assemble import Listing, Reading, assemble
from fedloom.data.containers import FederatedDataset
from fedloom.data.io.decode import Source, decode_all
from fedloom.data.io.image_folder import read_image_folder
from fedloom.data.io.layout import LAYOUT, locate
from fedloom.data.io.parquet import read_parquet
from fedloom.data.io.pixels import Met
from fedloom.data.io.raw import Raw
from fedloom.data.io.tables import read_columns
from fedloom.data.labels import classes_of, encode
from fedloom.data.names import alike, blank, spelled
from fedloom.data.options import takes
from fedloom.data.public_split import stratified
from fedloom.data.registry import Dataset
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask

PARTS = ("images_train", "images_test", "texts_train", "texts_test")
KINDS = ((ClientTask.IMAGE_CLASSIFICATION, "images"), (ClientTask.TEXT_CLASSIFICATION, "texts"))


def _images(path: Path) -> Raw:
    if path.is_dir():
        return _spelled(read_image_folder(path))
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file or folder. Expected an image folder or a parquet file")
    if path.suffix.lower() not in {".parquet", ".pq"}:
        raise BadInput(f"{path}: images are read from a folder of class folders or a .parquet file")
    return read_parquet(path)


def _spelled(raw: Raw) -> Raw:
    """The pictures of folders under their classes' names as they are kept, whatever this disk makes of accents."""
    names = tuple(sorted({spelled(name) for name in raw.names or ()}))
    return replace(raw, written=[spelled(str(name)) for name in raw.written], names=names)


def _texts(path: Path, text: str, label: str) -> Raw:
    """Texts of a CSV file with a header; rows with a blank text are left out and counted."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file. Expected a CSV file with columns {text!r} and {label!r}")
    rows = read_columns(path, (text, label))
    full = [(number, words.strip(), name.strip()) for number, (words, name) in rows if not blank(words)]
    return Raw(
        [words for _, words, _ in full],
        [name for _, _, name in full],
        [f"{path} row {number}" for number, _, _ in full],
        [f"row {number}" for number, _, _ in full],
        left_out=len(rows) - len(full),
    )


def _parts(listings: Mapping[str, Listing], kind: str, share: float, reading: Reading) -> tuple[Listing, Listing]:
    """The training and the test part; without a test part a share of every class is held out."""
    train = listings[f"{kind}_train"]
    if f"{kind}_val" in listings:
        train = train.joined(listings[f"{kind}_val"], "val")
    if f"{kind}_test" in listings:
        return train, listings[f"{kind}_test"]
    held_out, rest = stratified(train.labels, share, numpy_stream(reading.seed, "hold out", kind))
    if not len(held_out):
        if kind == "images":
            _check_readable(train, reading)
        raise BadInput(f"{kind}: no class has two samples, so no test part can be held out; give a test part")
    return train.take(rest.tolist()), train.take(held_out.tolist())


def _check_readable(pictures: Listing, reading: Reading) -> None:
    """Raises BadInput where a picture cannot be read; with on_bad 'skip' where none can. It names the first."""
    sources: list[Source] = [s for s in pictures.items if not isinstance(s, str)]
    _, kept, bad = decode_all(sources, pictures.places, reading.size, reading.on_bad, Met(reading.range))
    if not len(kept):
        raise BadInput(f"none of the {len(bad)} pictures can be read, the first is {bad[0]}")


def tasks_in(root: str | Path | None, options: Mapping[str, Any]) -> tuple[ClientTask, ...]:
    """Whether there are pictures, texts or both, by the parts that `load` would read; both if it would refuse them."""
    base = None if root is None else Path(os.path.expanduser(root))
    try:
        where, _ = locate(base, {key: options.get(key) for key in PARTS}, False)
    except (BadInput, TypeError):
        return SINGLE_MODALITY
    return tuple(task for task, kind in KINDS if f"{kind}_train" in where)


@takes(Reading)
def load(
    root: str | Path | None = None,
    images_train: str | Path | None = None,
    images_test: str | Path | None = None,
    texts_train: str | Path | None = None,
    texts_test: str | Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
    labels_file: str | Path | None = None,
    test_share: float = 0.2,
    name: str = "folder",
    use_val: bool = False,
    *,
    reading: Reading,
) -> FederatedDataset:
    """Read your own data.

    Args:
        root: folder the other paths are relative to. With no other path, what it holds is found by the usual names.
        images_train, images_test: a folder of class folders (which may hold train/, val/ and test/), or a parquet file
            with columns `image` (encoded bytes, or a struct of bytes and path) and `label` (integer or string).
        texts_train, texts_test: CSV files with a header.
        text_column, label_column: of the CSV files. A label is a class name or a number, see `labels`.
        labels_file: the class names in order, see class_list. Without it: labels.json beside the data; the parquet
            file's own list; the names of the class folders; else the labels that occur in training.
        test_share: share of every class held out for testing if there is no test part.
        reading: images and texts are not paired: a public picture's caption is words from a public text of its class.
        name: of the data set.
        use_val: whether a validation part joins the training part; else it takes the place of a missing test part, or
            is left out.

    Raises:
        BadInput: what is missing, unreadable or contradictory, with the file and row.
    """
    if not 0 < test_share < 1:
        raise BadInput(f"test_share={test_share}, allowed: between 0 and 1")
    base = None if root is None else Path(os.path.expanduser(root))
    where, notes = locate(base, dict(zip(PARTS, (images_train, images_test, texts_train, texts_test))), use_val)
    raws = {
        key: _images(path) if key.startswith("images") else _texts(path, text_column, label_column)
        for key, path in where.items()
    }
    names, listings, numbers = _labelled(raws, where, base, labels_file)
    train, test = {}, {}
    for task, kind in KINDS:
        if f"{kind}_train" in listings:
            train[task], test[task] = _parts(listings, kind, test_share, reading)
            if f"{kind}_test" not in listings:
                notes.setdefault("held_out", {})[task] = test_share
    return assemble(name, names, train, test, reading, notes=notes | _told(raws, numbers, reading))


def _labelled(
    raws: Mapping[str, Raw], where: Mapping[str, Path], base: Path | None, labels_file: str | Path | None
) -> tuple[Sequence[str], dict[str, Listing], list[str]]:
    """The class names, the parts with their labels, and a line for each file whose labels are numbers."""
    beside = [p for p in (base, *(path.parent for path in where.values())) if p is not None]
    named = None if labels_file is None else (base or Path()) / Path(os.path.expanduser(labels_file))
    trained = {str(where[key]): raw for key, raw in raws.items() if key.endswith("train")}
    classes = classes_of(named, beside, trained)
    encoded = {key: encode(raw, classes, str(where[key])) for key, raw in raws.items()}
    listings = {key: listing for key, (listing, _) in encoded.items()}
    return classes.names, listings, [line for _, line in encoded.values() if line is not None]


def _told(raws: Mapping[str, Raw], numbers: list[str], reading: Reading) -> dict[str, Any]:
    """What was left out of all parts. numbers: a line for each file whose labels are numbers.

    Raises:
        BadInput: a class of which no file is a picture, unless on_bad is 'skip' or it is none of those wanted.
    """
    wanted = None if reading.classes is None else {alike(str(c)) for c in reading.classes}
    lost = [line for raw in raws.values() for name, line in raw.lost.items() if wanted is None or alike(name) in wanted]
    if lost and reading.on_bad == "error":
        raise BadInput(f"{lost[0]}. Convert them, leave the class out of data.options.classes, or set on_bad='skip'")
    endings: Counter[str] = Counter()
    for raw in raws.values():
        endings.update(raw.notes.get("ignored_endings", {}))
    return {
        "ignored_files": endings.total(),
        "ignored_endings": dict(endings.most_common()),
        "hidden_entries": [name for raw in raws.values() for name in raw.notes.get("hidden_entries", ())],
        "pictures_without_class": sum(raw.notes.get("pictures_without_class", 0) for raw in raws.values()),
        "empty_texts": sum(raw.left_out for key, raw in raws.items() if key.startswith("texts")),
        "numbers_as_labels": numbers,
        "lost_classes": lost,
    }


DATASET = Dataset(
    name="folder",
    summary="your own data: an image folder or parquet file, and/or CSV files of texts",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION),
    layout=f"{LAYOUT}; or no root and the paths as options",
    source="yours",
    licence="yours",
    find_tasks=tasks_in,
)
