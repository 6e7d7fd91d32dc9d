"""Parts and classes of image folders of odd names, and choices that depend on the pictures alone."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_folders import NAMES, count, read
from class_folders import root as root

from conftest import picture
from fedloom.data.notes import data_notes
from fedloom.errors import BadInput

# ---------------------------------------------------------------------------------------------------- what is chosen


@pytest.mark.parametrize("how", ["folder", "parquet", "texts"])
def test_choices_do_not_depend_on_where_the_data_lie(root: Path, tmp_path_factory: Any, how: str) -> None:
    if how == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        files = sorted((root / "images").rglob("*.jpg"))
        columns = {"image": [f.read_bytes() for f in files], "label": [f.parent.name for f in files]}
        pq.write_table(pa.table(columns), root / "images_train.parquet")
        shutil.rmtree(root / "images")
    elif how == "texts":
        shutil.rmtree(root / "images")
        rows = "".join(f"text {i} of {name},{name}\n" for name in NAMES for i in range(9))
        (root / "texts_train.csv").write_text(f"text,label\n{rows}")
    there = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, there)
    here, copied = (read(place, per_class=2) for place in (root, there))
    for part in ("train", "test"):
        for a, b in zip(getattr(here, part).values(), getattr(copied, part).values(), strict=True):
            assert np.array_equal(a.labels, b.labels)
            assert np.array_equal(a.images, b.images) if how != "texts" else a.texts == b.texts


def test_choices_are_the_same_for_both_ways_to_write_an_accent(root: Path) -> None:
    chosen = []
    for form in ("NFC", "NFD"):
        folder = root / form / "images" / "boa"
        for i in range(8):
            picture(folder / unicodedata.normalize(form, f"é{i}.png"), 1, i)
        picture(root / form / "images" / "adder" / "0.png", 0, 0)
        picture(root / form / "images" / "adder" / "1.png", 0, 1)
        chosen.append(read(root / form, per_class=3).train["image"].images)  # type: ignore[union-attr]
    assert np.array_equal(*chosen)


def test_what_is_in_both_parts_or_under_two_labels_is_counted(root: Path) -> None:
    shutil.move(root / "images", root / "all")
    for part, numbers in (("train", range(4)), ("test", range(3, 6))):  # p003 is in both
        for name in NAMES:
            (root / "images" / part / name).mkdir(parents=True)
            for i in numbers:
                shutil.copy(root / "all" / name / f"p{i:03d}.jpg", root / "images" / part / name / f"{part}{i}.jpg")
    shutil.copy(root / "all" / "boa" / "p000.jpg", root / "images" / "train" / "adder" / "wrong.jpg")
    for part in ("train", "test"):
        rows = [f"{part} {name},{name}\n" for name in NAMES] + ["the same,boa\n"]
        (root / f"texts_{part}.csv").write_text("text,label\n" + "".join(rows))
    told = data_notes(read(root))
    assert "Test pictures that are in the training part too, byte for byte: 3" in told
    assert "Test texts that are in the training part too, letter for letter: 1" in told
    assert "Pictures of which a copy has another label: 2" in told


# ------------------------------------------------------------------------------------------------- parts and classes


def parts(root: Path, *names: str) -> None:
    shutil.move(root / "images", root / "all")
    for name in names:
        shutil.copytree(root / "all", root / "images" / name)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_a_validation_part_is_the_test_part_where_there_is_none(root: Path, val: str) -> None:
    parts(root, "train", val)
    dataset = read(root)
    assert (count(dataset), count(dataset, "test")) == (18, 18)
    assert any(line.startswith("No test part: ") and f"images/{val} takes" in line for line in data_notes(dataset))
    joined = read(root, use_val=True)
    assert count(joined) + count(joined, "test") == 36
    assert "No test part of pictures: 20% of every class is held out" in data_notes(joined)


def test_a_validation_part_beside_a_test_part_is_left_out_and_told(root: Path) -> None:
    parts(root, "train", "val", "test")
    dataset = read(root)
    assert (count(dataset), count(dataset, "test")) == (18, 18)
    assert any(line.startswith("Left out, as there is a test part: ") for line in data_notes(dataset))
    assert count(read(root, use_val=True)) == 36
    assert count(read(root, use_val=True, per_class=4)) == 12


def test_validation_parts_of_tables(root: Path) -> None:
    for part in ("train", "val"):
        (root / f"texts_{part}.csv").write_text("text,label\n" + "".join(f"{part} {n},{n}\n" for n in NAMES))
    dataset = read(root)
    assert dataset.test["text"].texts[0] == "val adder"  # type: ignore[union-attr]
    assert any("texts_val.csv takes its place" in line for line in data_notes(dataset))
    (root / "train").mkdir()
    assert any(line.startswith("Also there, not read: ") for line in data_notes(read(root)))


@pytest.mark.parametrize("name", ["train", "test", "val"])
def test_a_class_may_be_called_as_a_part(root: Path, name: str) -> None:
    shutil.move(root / "images" / "adder", root / "images" / name)
    assert sorted(read(root).class_names) == sorted(["boa", "cobra", name])
    (root / "images" / name / "deep").mkdir()
    for file in (root / "images" / name).glob("*.jpg"):
        file.rename(file.parent / "deep" / file.name)
    with pytest.raises(BadInput, match=rf"images: {name} beside boa, cobra: parts of the data, or classes\?"):
        read(root)


def test_parts_that_contradict_one_another(root: Path) -> None:
    parts(root, "train", "val", "valid")
    with pytest.raises(BadInput, match="both val and valid are there"):
        read(root)
    shutil.rmtree(root / "images" / "train")
    shutil.rmtree(root / "images" / "valid")
    with pytest.raises(BadInput, match="images: val, but no train"):
        read(root)


@pytest.mark.parametrize("twin", ["Boa", "boa_", "BOA"])
def test_class_folders_that_differ_only_by_case(root: Path, twin: str) -> None:
    picture(root / "images" / twin / "0.jpg", 0, 0)
    with pytest.raises(BadInput, match="differ only by case, space or underscore"):
        read(root)
