"""Where the parts of a silo's own data are: as given, or found by their usual names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.data.io.files import folders, pictures
from fedloom.data.io.walk import listing, told
from fedloom.errors import BadInput

LAYOUT = (
    "images/<class>/*.jpg (or images/train/<class>/, images/val/<class>/ and images/test/<class>/, or "
    "images_train.parquet, images_val.parquet and images_test.parquet) and/or texts_train.csv, texts_val.csv and "
    "texts_test.csv with columns text and label; labels.json is optional"
)
NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_PART = {name: part for part, names in NAMES.items() for name in names}


def locate(
    root: Path | None, given: Mapping[str, str | Path | None], use_val: bool
) -> tuple[dict[str, Path], dict[str, Any]]:
    """The parts that are there, such as `images_train`, and notes on what is done with a validation part.

    Args:
        root: the folder that the others are relative to.
        given: of `images_train`, `images_test`, `texts_train` and `texts_test` those that are given. Without any, what
            `root` holds is found.
        use_val: a validation part beside a test part joins the training part (as `images_val`); else it is left out.
            Where there is no test part, it is the test part.

    Raises:
        BadInput: nothing to read; a test part without a training part; folders that may be parts or classes.
    """
    notes: dict[str, Any] = {}
    if all(part is None for part in given.values()):
        if root is None:
            raise BadInput(f"folder: nothing to read: give root, images_train or texts_train. Layout of root: {LAYOUT}")
        where = _discover(root, notes)
    else:
        base = root or Path()
        where = {k: base / Path(os.path.expanduser(part)) for k, part in given.items() if part is not None}
    for kind in ("images", "texts"):
        train, test = where.get(f"{kind}_train"), where.get(f"{kind}_test")
        if train is None and test is not None:
            raise BadInput(f"{kind}_test={told(test)} is given without {kind}_train")
        if train is not None and test is None and train.is_dir() and (parts := split_folder(train)):
            where |= {f"{kind}_{part}": path for part, path in parts.items()}
        _settle_val(kind, where, use_val, notes)
    if "images_train" not in where and "texts_train" not in where:
        raise BadInput(f"{told(root or '')}: neither images nor texts found. Expected layout: {LAYOUT}")
    return where, notes


def split_folder(path: Path) -> dict[str, Path] | None:
    """The folders of the parts in a folder, by part; None where its folders are classes.

    A class may be called `train` or `test`: beside other classes it holds pictures itself, which a part does not.

    Raises:
        BadInput: it cannot be told which of them they are, or there is no training part.
    """
    parts: dict[str, Path] = {}
    others = []
    for folder in folders(path):
        part = _PART.get(folder.name.lower())
        if part is None:
            others.append(folder.name)
        elif part in parts:
            raise BadInput(f"{told(path)}: both {parts[part].name} and {folder.name} are there; leave one of the two")
        else:
            parts[part] = folder
    if not parts or ((others or "train" not in parts) and all(pictures(folder) for folder in parts.values())):
        return None
    names = " and ".join(folder.name for folder in parts.values())
    if others:
        raise BadInput(
            f"{told(path)}: {names} beside {', '.join(map(told, others[:3]))}: parts of the data, or classes? Parts "
            "have no other folders beside them; for classes of these names give both images_train and images_test"
        )
    if "train" not in parts:
        raise BadInput(f"{told(path)}: {names}, but no train. Expected: train, val and test, or class folders")
    return parts


def _settle_val(kind: str, where: dict[str, Path], use_val: bool, notes: dict[str, Any]) -> None:
    """What becomes of a validation part."""
    val = where.get(f"{kind}_val")
    if val is None or use_val:
        return
    del where[f"{kind}_val"]
    if f"{kind}_test" in where:
        notes.setdefault("validation_left_out", []).append(told(val))
    else:
        where[f"{kind}_test"] = val
        notes.setdefault("validation_as_test", []).append(told(val))


def _discover(root: Path, notes: dict[str, Any]) -> dict[str, Path]:
    """The parts of a root folder by their usual names (LAYOUT)."""
    if not root.is_dir():
        raise BadInput(f"{told(root)}: there is no such folder. Expected layout: {LAYOUT}")
    folder_parts = {part: path for path in folders(root) if (part := _PART.get(path.name.lower())) is not None}
    choices = [
        {"train": root / "images"} if (root / "images").is_dir() else {},
        _tables(root, "images", ".parquet"),
        folder_parts if "train" in folder_parts else {},
    ]
    there = [parts for parts in choices if parts]
    for parts in there[1:]:  # of pictures one of the three is read
        notes.setdefault("not_read", []).extend(told(path) for path in parts.values())
    found = {f"images_{part}": path for part, path in (there[0] if there else {}).items()}
    texts = _tables(root, "texts", ".csv")
    used = {*found.values(), *texts.values(), *(path for parts in there for path in parts.values())}
    pictured = [path for path in folders(root) if path not in used and _holds_pictures(path)]
    if pictured and texts and not found:
        names = ", ".join(path.name for path in pictured[:4]) + (", ..." if len(pictured) > 4 else "")
        raise BadInput(
            f"{told(root)}: pictures lie in {told(names)}, where none are looked for. Put the class folders into "
            f"{told(root / 'images')}, or name the folder that holds them: data.options.images_train"
        )
    tables = [Path(e.path) for e in listing(root) if e.kind == "file" and e.path.lower().endswith((".csv", ".parquet"))]
    if unread := [path.name for path in (*pictured, *tables) if path not in used]:
        notes.setdefault("not_read", []).extend(unread)
    return found | {f"texts_{part}": path for part, path in texts.items()}


def _holds_pictures(folder: Path) -> bool:
    """Whether pictures lie in a folder or in one right below it."""
    return bool(pictures(folder)) or any(pictures(below) for below in folders(folder))


def _tables(root: Path, kind: str, ending: str) -> dict[str, Path]:
    """The files of each part, such as `images_valid.parquet`."""
    return {
        part: root / f"{kind}_{name}{ending}"
        for part, names in NAMES.items()
        for name in names
        if (root / f"{kind}_{name}{ending}").exists()
    }
