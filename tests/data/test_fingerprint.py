"""What is read again, and what is not: every file that a reader may read, and the reader's own code."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import picture
from fedloom.config import DataSettings
from fedloom.data.fingerprint import fingerprint
from fedloom.data.registry import BUILTIN
from fedloom.experiment.datasets import cached_dataset


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A root with texts, pictures outside of it, a list of labels behind a link, a picture named in parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root, far = tmp_path / "root", tmp_path / "far"
    for c, name in enumerate(("boa", "adder")):
        for i in range(3):
            picture(far / "scans" / name / f"{i}.png", c, i)
    root.mkdir()
    (root / "texts_train.csv").write_text("text,label\n" + "a,boa\nb,adder\n" * 3)
    (far / "names.json").write_text('["boa", "adder"]')
    (root / "labels.json").symlink_to(far / "names.json")
    (root / "linked").symlink_to(far / "scans")
    one = picture(far / "loose" / "one.png", 0, 9)
    table = pa.table({"image": [{"bytes": None, "path": "../far/loose/one.png"}] * 4, "label": ["boa", "adder"] * 2})
    pq.write_table(table, root / "images_train.parquet")
    assert one.is_file()
    return tmp_path


def in_place(path: Path) -> None:
    """Other bytes of the same number at the same time, as `cp -p` writes them."""
    facts = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def exchanged(path: Path) -> None:
    """Another file of the same size and time, as `mv` and `rsync -t` put it there."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


def folders_exchanged(path: Path) -> None:
    """Two folders whose files have the same names, sizes and times change places."""
    for folder in (path / "boa", path / "adder"):
        for file in folder.iterdir():
            file.write_bytes(b"x" * 50 + folder.name[:1].encode())
            os.utime(file, (1, 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "renamed class": lambda t: (t / "far/scans/boa").rename(t / "far/scans/python"),
    "deleted file": lambda t: (t / "far/scans/boa/1.png").unlink(),
    "new file": lambda t: (t / "far/scans/boa/new.png").write_bytes(b"x"),
    "in place": lambda t: in_place(t / "far/scans/boa/1.png"),
    "exchanged": lambda t: exchanged(t / "far/scans/boa/1.png"),
    "labels behind a link": lambda t: (t / "far/names.json").write_text('["adder", "boa"]'),
    "below the root": lambda t: in_place(t / "root/texts_train.csv"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["option", "link"])
def test_whatever_is_read_renews_the_data(there: Path, change: str, how: str) -> None:
    options = {"images_train": str(there / "far" / "scans") if how == "option" else "linked"}
    before = fingerprint("folder", str(there / "root"), options)
    assert fingerprint("folder", str(there / "root"), options) == before
    CHANGES[change](there)
    assert fingerprint("folder", str(there / "root"), options) != before


def test_folders_that_change_places(there: Path) -> None:
    scans = there / "far" / "scans"
    folders_exchanged(scans)
    before = fingerprint("folder", None, {"images_train": str(scans)})
    for a, b in (("boa", "x"), ("adder", "boa"), ("x", "adder")):
        (scans / a).rename(scans / b)
    assert fingerprint("folder", None, {"images_train": str(scans)}) != before


def test_pictures_that_a_table_names(there: Path) -> None:
    before = fingerprint("folder", str(there / "root"), {})
    in_place(there / "far" / "loose" / "one.png")
    assert fingerprint("folder", str(there / "root"), {}) != before


def test_a_labels_file_beside_pictures_elsewhere(there: Path) -> None:
    options = {"images_train": str(there / "far" / "scans")}
    before = fingerprint("folder", None, options)
    (there / "far" / "labels.json").write_text("[]")
    assert fingerprint("folder", None, options) != before


def test_files_of_sets_within_sets(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)
    options = {
        "image": {"name": "folder", "images_train": "far/scans"},
        "public": {"name": "coco", "root": "root"},
    }
    seen = [fingerprint("mixed", None, options)["files"]]
    in_place(there / "far/scans/boa/0.png")
    seen.append(fingerprint("mixed", None, options)["files"])
    in_place(there / "root/texts_train.csv")
    seen.append(fingerprint("mixed", None, options)["files"])
    assert len(set(seen)) == 3


def test_what_is_not_read_renews_nothing(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)
    (there / "text").mkdir()
    options = {
        "images_train": "linked",
        "text_column": "text",
        "labels_file": "labels.json",
        "classes": ["text"],
    }
    before = fingerprint("folder", "root", options)
    (there / "text" / "new").write_text("an option's word is a folder's name here")
    (there / "far" / "scans" / "boa" / ".DS_Store").write_text("x")
    (there / "far" / "scans" / "@eaDir").mkdir()
    (there / "far" / "other").write_text("x")
    assert fingerprint("folder", "root", options) == before


def test_words_that_are_no_paths(tmp_path: Path) -> None:
    """A reader's separator `/` or `.` is not the disk; a name may be longer than a file's can be."""
    options: dict[str, Any] = {
        "separator": "/",
        "decimal": ".",
        "note": "x" * 5000,
        "nul": "a\0b",
        "n": 3,
        "user": "~no",
    }
    assert fingerprint("folder", str(tmp_path), options) == fingerprint("folder", str(tmp_path), {})


READER = """
from own_helper import NAMES, texts
from fedloom.data.containers import FederatedDataset
from fedloom.data.registry import Dataset

def load(root, table=None):
    held = texts()
    return FederatedDataset("own", NAMES, {"text": held}, {"text": held})

DATASET = Dataset("own", "", load, ("text",), layout="own")
"""
HELPER = """
import numpy as np
from fedloom.data.containers import TextSet
NAMES = ("a", "b")

def texts():
    return TextSet(("one", "two"), np.array([0, 1]))
"""


@pytest.mark.parametrize("layout", ["modules", "package"])
@pytest.mark.parametrize("corrected", ["reader", "helper"])
def test_a_corrected_reader_reads_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, corrected: str
) -> None:
    package = "" if layout == "modules" else "own_package."
    folder = tmp_path / "code" / package.rstrip(".")
    folder.mkdir(parents=True)
    files = {"reader": folder / "own_reader.py", "helper": folder / "own_helper.py"}
    files["reader"].write_text(READER.replace("own_helper", f"{package}own_helper"))
    files["helper"].write_text(HELPER)
    if package:
        (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(BUILTIN, "own", f"{package}own_reader:DATASET")
    data = DataSettings(name="own", root=str(tmp_path))
    names = [name for name in sys.modules if name.startswith("own_")]
    try:
        assert cached_dataset(data).class_names == ("a", "b")
        old, new = ('"own", NAMES', '"own", ("c", "d")') if corrected == "reader" else ('("a", "b")', '("c", "d")')
        files[corrected].write_text(files[corrected].read_text().replace(old, new))
        assert fingerprint("own", str(tmp_path), {})["code"] != fingerprint("flora", None, {})["code"]
        for name in [name for name in sys.modules if name.startswith("own_")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        assert cached_dataset(data).class_names == ("c", "d")
    finally:
        for name in [name for name in sys.modules if name.startswith("own_") and name not in names]:
            del sys.modules[name]
