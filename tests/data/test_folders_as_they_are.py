"""Image folders as people have them: links, pipes, system folders, other endings, names that are no UTF-8."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from class_folders import NAMES, count, read
from class_folders import root as root
from PIL import Image

from conftest import picture, truncate
from fedloom.data.io import walk as walking
from fedloom.data.io.walk import walk
from fedloom.data.notes import data_notes
from fedloom.errors import BadInput


@pytest.mark.parametrize(
    "folder",
    [
        ".ipynb_checkpoints",
        "@eaDir",
        "__MACOSX",
        "lost+found",
        "$RECYCLE.BIN",
        "#recycle",
        "System Volume Information",
    ],
)
@pytest.mark.parametrize("where", ["", "boa", "boa/ward/deep"])
def test_system_folders_at_any_depth_are_not_read(root: Path, folder: str, where: str) -> None:
    picture(root / "images" / where / folder / "copy" / "p000.jpg", 1, 0)
    picture(root / "images" / where / folder / "p000.jpg", 1, 0)
    dataset = read(root)
    assert dataset.class_names == NAMES
    assert count(dataset) + count(dataset, "test") == 18
    assert any("Hidden and system entries, left out" in line and folder in line for line in data_notes(dataset))


def test_litter_is_not_told_and_resource_forks_are_not_read(root: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "images" / "boa" / name).write_bytes(b"x")
    (root / "images" / "boa" / "._p000.jpg").write_bytes(b"\0\5\x16\7")
    dataset = read(root)
    assert dataset.notes["ignored_files"] == 0
    assert data_notes(dataset) == [
        "No test part of pictures: 20% of every class is held out",
        "Hidden and system entries, left out: boa/._p000.jpg",
    ]


def test_a_class_may_begin_with_two_underscores(root: Path) -> None:
    for i in range(2):
        picture(root / "images" / "__background__" / f"{i}.png", 3, i)
    assert read(root).class_names == ("background", *NAMES)


@pytest.mark.parametrize("ending", ["jfif", "ppm", "jpe", "tga", "jp2", "PNG"])
def test_pictures_of_other_endings_are_read(root: Path, ending: str) -> None:
    for i in range(6):
        file = root / "images" / "boa" / f"p{i:03d}.jpg"
        with Image.open(file) as shown:
            shown.save(file.with_suffix(f".{ending}"), {"jfif": "JPEG", "jpe": "JPEG"}.get(ending))
        file.unlink()
    dataset = read(root)
    assert np.bincount(np.concatenate([s["image"].labels for s in (dataset.train, dataset.test)])).tolist() == [6] * 3  # type: ignore[union-attr]


def test_a_class_without_a_picture_is_refused_by_name(root: Path) -> None:
    for file in (root / "images" / "boa").iterdir():
        file.rename(file.with_suffix(".heic"))
    (root / "images" / "adder" / "list.txt").write_text("x")
    with pytest.raises(BadInput, match=r"boa: none of its 6 files is read as a picture \(6 \.heic\)\. Convert"):
        read(root)
    assert read(root, classes=["adder", "cobra"]).class_names == ("adder", "cobra")
    told = data_notes(read(root, on_bad="skip"))
    assert "Classes without training pictures: boa" in told
    assert "Classes without test pictures: boa" in told
    assert "Files left out by their ending: 6 .heic, 1 .txt" in told
    assert any(line.startswith("Lost class: ") and "/boa: none of its 6" in line for line in told)


def test_a_class_of_truncated_pictures_is_told_by_name(root: Path) -> None:
    for file in (root / "images" / "boa").iterdir():
        truncate(file)
    with pytest.raises(BadInput, match=r"cannot read picture .*boa/p00\d\.jpg"):
        read(root)
    told = data_notes(read(root, on_bad="skip"))
    assert told[:2] == ["Classes without training pictures: boa", "Classes without test pictures: boa"]
    assert any(line.startswith("Unreadable pictures, left out: 6, such as ") for line in told)


def test_pictures_in_no_class_are_counted(root: Path) -> None:
    for i in range(3):
        picture(root / "images" / f"stray{i}.jpg", 0, i)
    assert "Pictures in no class folder, left out: 3" in data_notes(read(root))


# ------------------------------------------------------------------------------------------------------------ links


def test_links_are_followed_and_loops_end(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    far = tmp_path_factory.mktemp("far")
    shutil.move(root / "images" / "boa", far / "boa")
    (root / "images" / "boa").symlink_to(far / "boa")
    picture(far / "ward" / "q.jpg", 1, 50)
    (far / "boa" / "ward").symlink_to(far / "ward")
    (far / "ward" / "round").symlink_to(far / "ward")  # a loop
    (far / "ward" / "up").symlink_to(far)  # would lead to all again
    dataset = read(root)
    assert dataset.class_names == NAMES
    assert count(dataset) + count(dataset, "test") == 19
    (root / "images" / "all").symlink_to(root / "images")
    with pytest.raises(BadInput, match="all: a link to a folder that it lies in"):
        read(root)


@pytest.mark.parametrize("kind", ["dangling", "loop", "pipe", "folder link"])
def test_what_is_no_file_is_refused_or_counted(root: Path, kind: str) -> None:
    odd = root / "images" / "boa" / ("ward" if kind == "folder link" else "odd.jpg")
    if kind == "pipe":
        os.mkfifo(odd)  # to open it would wait for ever
    else:
        odd.symlink_to(odd if kind == "loop" else root / "gone")
    says = {"pipe": "no file but a folder, pipe", "loop": "symbolic links"}.get(kind, "a link to a file that is not")
    with pytest.raises(BadInput, match=rf"boa/{odd.name}: .*{says}"):
        read(root)
    dataset = read(root, on_bad="skip")
    assert dataset.notes["unreadable_images"] == 1
    assert f"boa/{odd.name}" in " ".join(data_notes(dataset))


def test_a_class_folder_that_is_a_link_to_nothing_is_refused(root: Path) -> None:
    (root / "images" / "viper").symlink_to(root / "gone")
    with pytest.raises(BadInput, match="viper: a link to a folder that is not there"):
        read(root)


def test_a_folder_that_may_not_be_listed_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "images" / "boa" / "ward").mkdir()
    listdir = os.listdir

    def refusing(path: str) -> list[str]:
        if str(path).endswith("ward"):
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(walking.os, "listdir", refusing)
    with pytest.raises(BadInput, match="boa/ward: may not be read"):
        read(root)


def test_the_walk_lists_each_folder_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "a")
    found = {entry.below: (entry.kind, entry.seen) for entry in walk(tmp_path)}
    assert found == {
        "a": ("folder", None),
        "a/b": ("folder", None),
        "a/b/up": ("folder", ""),
        "a/b/x": ("file", None),
        "z": ("folder", "a"),
    }
    assert all(entry.seen == ".." for entry in walk(tmp_path / "a" / "b") if entry.name == "up")


# -------------------------------------------------------------------------------------------------- names of no UTF-8


def test_file_names_that_are_not_utf8(root: Path) -> None:
    raw = os.fsencode(root / "images" / "boa") + b"/caf\xe9.jpg"
    shutil.copy(root / "images" / "boa" / "p000.jpg", raw)
    assert count(read(root, per_class=7)) >= 3 * 5
    with open(raw, "wb") as file:
        file.write(b"no picture")
    with pytest.raises(BadInput, match=r"boa/caf\\xe9\.jpg: no picture, or of a format that is not known"):
        read(root)
    told = data_notes(read(root, on_bad="skip"))
    assert any("caf\\xe9.jpg" in line for line in told)
    "\n".join(told).encode()
    os.mkdir(os.fsencode(root / "images") + b"/b\xe9b\xe9")
    with pytest.raises(BadInput, match="is not UTF-8 text: rename it"):
        read(root)


@pytest.mark.parametrize("place", [".", "Pictures"])
def test_pictures_that_lie_elsewhere_beside_texts_are_not_passed_over(root: Path, place: str) -> None:
    """Class folders straight in the root, or in a folder of another name: texts alone would be trained on."""
    (root / place).mkdir(exist_ok=True)
    for name in NAMES:
        (root / "images" / name).rename(root / place / name)
    (root / "images").rmdir()
    (root / "texts_train.csv").write_text("text,label\n" + "".join(f"a {n} {i},{n}\n" for n in NAMES for i in range(6)))
    with pytest.raises(BadInput, match=r"pictures lie in \w+.*, where none are looked for. Put the class folders into"):
        read(root)
    assert read(root, texts_train="texts_train.csv").train.keys() == {"text"}


def test_what_is_not_read_is_told(root: Path) -> None:
    (root / "texts.csv").write_text("text,label\na,adder\n")
    picture(root / "older" / "boa" / "p.jpg", 1, 1, side=(64, 64))
    assert "Also there, not read: older, texts.csv" in data_notes(read(root))
