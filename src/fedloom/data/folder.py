"""A silo's own data: an image folder or a parquet file, and CSV files of texts, over one list of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedloom.data.assemble import Listing, Reading, assemble
from fedloom.data.decode import OnBad
from fedloom.data.files import PICTURES, folders
from fedloom.data.generic import stratified
from fedloom.data.labels import classes_of, encode
from fedloom.data.names import blank, spelled
from fedloom.data.parquet import read_parquet
from fedloom.data.raw import Raw
from fedloom.data.scene import Labels, Modality, Scene
from fedloom.data.tables import read_columns
from fedloom.errors import BadInput
from fedloom.randomness import numpy_stream

LAYOUT = (
    "images/<class>/*.jpg (or images/train/<class>/ and images/test/<class>/, or images_train.parquet and "
    "images_test.parquet) and/or texts_train.csv and texts_test.csv with columns text and label; "
    "labels.json is optional"
)


def _image_folder(path: Path) -> Raw:
    """Pictures of class sub-folders at any depth; every sub-folder is a class."""
    classes = folders(path)
    if not classes:
        raise BadInput(f"{path}: no class sub-folders. Expected: {path}/<class>/*.jpg")
    files = [(d.name, p) for d in classes for p in sorted(d.rglob("*")) if p.is_file()]
    files = [(name, p) for name, p in files if not p.name.startswith(".")]
    found = [(name, p) for name, p in files if p.suffix.lower() in PICTURES]
    if not found:
        raise BadInput(
            f"{path}: no pictures in its {len(classes)} class folders ({', '.join(sorted(PICTURES))})"
        )
    return Raw(
        [p for _, p in found],
        [name for name, _ in found],
        [str(p) for _, p in found],
        tuple(d.name for d in classes),
        left_out=len(files) - len(found),
    )


def _images(path: Path) -> Raw:
    if path.is_dir():
        return _spelled(_image_folder(path))
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
        raise BadInput(
            f"{path}: there is no such file. Expected a CSV file with columns {text!r} and {label!r}"
        )
    rows = read_columns(path, (text, label))
    full = [(number, words.strip(), name.strip()) for number, (words, name) in rows if not blank(words)]
    return Raw(
        [words for _, words, _ in full],
        [name for _, _, name in full],
        [f"{path} row {number}" for number, _, _ in full],
        left_out=len(rows) - len(full),
    )


def _hold_out(listing: Listing, share: float, seed: int, what: str) -> tuple[Listing, Listing]:
    held, rest = stratified(listing.labels, share, numpy_stream(seed, "hold out", what))
    if not len(held):
        raise BadInput(f"{what}: no class has two samples, so no test part can be held out; give a test part")
    return listing.take(rest.tolist()), listing.take(held.tolist())


def _discover(root: Path) -> dict[str, Path | None]:
    """The parts of a root folder by their usual names (LAYOUT)."""
    if not root.is_dir():
        raise BadInput(f"{root}: there is no such folder. Expected layout: {LAYOUT}")
    usual = ["images", "images_train.parquet", "train"]
    images = next((root / name for name in usual if (root / name).exists()), None)
    found = {"images_train": images, "images_test": None}
    if images is not None and images.name != "images":
        found["images_test"] = root / images.name.replace("train", "test")
    found |= {key: root / f"{key}.csv" for key in ("texts_train", "texts_test")}
    return {key: path if path is not None and path.exists() else None for key, path in found.items()}


def _locate(root: Path | None, parts: dict[str, str | Path | None]) -> dict[str, Path | None]:
    """Where each part is: as given (relative to root if there is one), else by the usual names."""
    if all(part is None for part in parts.values()):
        if root is None:
            raise BadInput(
                f"folder: nothing to read: give root, images_train or texts_train. Layout of root: {LAYOUT}"
            )
        where = _discover(root)
    else:
        base = root or Path()
        where = {key: None if part is None else base / Path(part).expanduser() for key, part in parts.items()}
    for modality in ("images", "texts"):
        train, test = where[f"{modality}_train"], where[f"{modality}_test"]
        if train is None and test is not None:
            raise BadInput(f"{modality}_test={test} is given without {modality}_train")
        if train is not None and test is None and (train / "train").is_dir():
            where[f"{modality}_train"] = train / "train"
            where[f"{modality}_test"] = train / "test" if (train / "test").is_dir() else None
    if where["images_train"] is None and where["texts_train"] is None:
        raise BadInput(f"{root}: neither images nor texts found. Expected layout: {LAYOUT}")
    return where


def load(
    root: str | Path | None = None,
    images_train: str | Path | None = None,
    images_test: str | Path | None = None,
    texts_train: str | Path | None = None,
    texts_test: str | Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
    labels_file: str | Path | None = None,
    size: int = 32,
    test_share: float = 0.2,
    classes: Sequence[str] | None = None,
    per_class: int | None = None,
    generic_share: float = 0.5,
    confusion: float = 0.4,
    on_bad: OnBad = "error",
    seed: int = 0,
    name: str = "folder",
) -> Scene:
    """Read a silo's own data.

    Args:
        root: folder the other paths are relative to. With no other path, what it holds is found by the usual
            names.
        images_train, images_test: a folder of class folders (which may hold train/ and test/), or a parquet
            file with columns `image` (encoded bytes, or a struct of bytes and path) and `label` (integer or
            string).
        texts_train, texts_test: CSV files with a header.
        text_column, label_column: of the CSV files. A label is a class name or a number, see `labels`.
        labels_file: the class names in order: a JSON list, a JSON object of index to name or of name to index, or a
            name a line. Without it: labels.json beside the data; the parquet file's own list; the names of the class
            folders; else the labels that occur in training.
        size: side of the pictures in pixels.
        test_share: share of every class held out for testing where there is no test part.
        classes, per_class, generic_share, confusion, on_bad, seed: see Reading. Images and texts are not
            paired: a generic picture's caption is words from a generic text of its class.
        name: of the scene.

    Raises:
        BadInput: what is missing, unreadable or contradictory, with the file and row.
    """
    reading = Reading(size, classes, per_class, generic_share, confusion, on_bad, seed)
    if not 0 < test_share < 1:
        raise BadInput(f"test_share={test_share}, allowed: between 0 and 1")
    base = None if root is None else Path(root).expanduser()
    given = {"images_train": images_train, "images_test": images_test, "texts_train": texts_train}
    where = _locate(base, {**given, "texts_test": texts_test})
    raws: dict[str, Raw] = {}
    for key, path in where.items():
        if path is not None:
            raws[key] = _images(path) if key.startswith("images") else _texts(path, text_column, label_column)
    beside = [
        p for p in (base, *(path.parent for path in where.values() if path is not None)) if p is not None
    ]
    named = None if labels_file is None else (base or Path()) / Path(labels_file).expanduser()
    trained = {str(where[key]): raw for key, raw in raws.items() if key.endswith("train")}
    classes_found = classes_of(named, beside, trained)
    names = classes_found.names
    encoded = {key: encode(raw, classes_found, str(where[key])) for key, raw in raws.items()}
    listings = {key: listing for key, (listing, _) in encoded.items()}
    train: dict[Modality, Listing] = {}
    test: dict[Modality, Listing] = {}
    keys: tuple[tuple[Modality, str], ...] = (("image", "images"), ("text", "texts"))
    for modality, key in keys:
        if f"{key}_train" in listings:
            train[modality] = listings[f"{key}_train"]
            if f"{key}_test" in listings:
                test[modality] = listings[f"{key}_test"]
            else:
                train[modality], test[modality] = _hold_out(train[modality], test_share, seed, key)
    notes = {
        "ignored_files": sum(raw.left_out for key, raw in raws.items() if key.startswith("images")),
        "empty_texts": sum(raw.left_out for key, raw in raws.items() if key.startswith("texts")),
        "numbers_as_labels": [line for _, line in encoded.values() if line is not None],
        "classes_without_training": _absent(names, [listing.labels for listing in train.values()]),
    }
    return assemble(name, names, train, test, reading, notes=notes)


def _absent(names: Sequence[str], labels: Sequence[Labels]) -> list[str]:
    """Names of the classes that some modality has no training sample of."""
    return [n for i, n in enumerate(names) if not all(bool((own == i).any()) for own in labels)]
