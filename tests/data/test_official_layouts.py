"""Flowers-102, Food-101 and UPMC Food-101 from fixtures in their official layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import picture, truncate
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.flowers102 import NAMES
from fedloom.data.datasets.flowers102_latin import LATIN
from fedloom.data.registry import load_dataset
from fedloom.errors import BadInput


def sizes(dataset: FederatedDataset) -> dict[str, int]:
    parts = {
        f"{part} {m}": len(s)
        for part, sets in (("train", dataset.train), ("test", dataset.test))
        for m, s in sets.items()
    }
    return parts | {"generic": len(dataset.public) if dataset.public else 0}


def test_food101(food: Path) -> None:
    dataset = load_dataset("food101", food, size=16)
    assert dataset.class_names == ("apple pie", "beet salad", "ceviche")
    assert sizes(dataset) == {"train image": 6, "test image": 6, "generic": 6}
    assert dataset.test["image"].labels.tolist() == [0, 0, 1, 1, 2, 2]
    for part in ("train", "test"):  # the same from the JSON lists
        entries: dict[str, list[str]] = {}
        for entry in (food / "meta" / f"{part}.txt").read_text().split():
            entries.setdefault(entry.partition("/")[0], []).append(entry)
        (food / "meta" / f"{part}.txt").unlink()
        (food / "meta" / f"{part}.json").write_text(json.dumps(entries))
    again = load_dataset("food101", food, size=16)
    assert (again.train["image"].images == dataset.train["image"].images).all()  # type: ignore[union-attr]


def test_food101_subset_and_cap(food: Path) -> None:
    dataset = load_dataset("food101", food, size=16, classes=["ceviche", "apple_pie"], per_class=3, generic_share=0)
    assert dataset.class_names == ("ceviche", "apple pie")
    assert sizes(dataset) == {"train image": 6, "test image": 4, "generic": 0}
    assert dataset.prompt(0) == "A picture of ceviche."
    blue = dataset.test["image"].images[dataset.test["image"].labels == 0]  # type: ignore[union-attr]
    assert blue[..., 2].mean() > 150


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": ["apple pi"]}, "Did you mean 'apple pie'"),
        ({"classes": ["tacos", "tacos"]}, "unknown class 'tacos'"),
        ({"classes": ["ceviche", "Ceviche"]}, "named twice"),
        ({"classes": "ceviche"}, "list of class names"),
        ({"per_class": 0}, "per_class=0"),
        ({"generic_share": 1.0}, "generic_share"),
        ({"confusion": "much"}, "data.options.confusion = 'much'"),
    ],
)
def test_options_out_of_range(food: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_dataset("food101", food, **options)


def test_food101_complaints(food: Path) -> None:
    cut = truncate(picture(food / "images" / "ceviche" / "101.jpg", 2, 1, side=(64, 64)))
    with pytest.raises(BadInput, match=r"101\.jpg"):
        load_dataset("food101", food)
    cut.unlink()
    dataset = load_dataset("food101", food, on_bad="skip")
    assert dataset.notes["unreadable_images"] == 1
    assert dataset.notes["unreadable_examples"] == [str(cut)]
    with (food / "meta" / "train.txt").open("a") as file:
        file.write("cevich/1\n")
    with pytest.raises(BadInput, match=r"train\.txt: entry 'cevich/1'.*Did you mean 'ceviche'"):
        load_dataset("food101", food)
    (food / "meta" / "classes.txt").unlink()
    with pytest.raises(BadInput, match=r"classes\.txt: there is no such file. Expected layout: images/<class>"):
        load_dataset("food101", food)
    with pytest.raises(BadInput, match=r"no such folder\. Expected layout"):
        load_dataset("food101", food / "nowhere")


def test_food101_real_miniature(recipes: Path) -> None:
    dataset = load_dataset("food101", recipes / "food-101", size=32)
    assert dataset.class_names == (
        "apple pie",
        "bread pudding",
        "cheesecake",
        "chicken wings",
        "chocolate cake",
    )
    assert sizes(dataset) == {"train image": 20, "test image": 20, "generic": 20}


def test_upmc(upmc: Path) -> None:
    dataset = load_dataset("upmc_food101", upmc, size=16, generic_share=0)
    assert sizes(dataset) == {"train image": 8, "train text": 7, "test image": 4, "test text": 4, "generic": 0}
    counted = ("rows_without_image", "images_without_row", "empty_titles", "rows_repeated")
    assert [dataset.notes[key] for key in counted] == [2, 2, 1, 0]
    assert dataset.test["text"].texts[0] == "Best apple pie, quick and easy no. a"  # type: ignore[union-attr]


def test_upmc_pairs_go_together(upmc: Path) -> None:
    dataset = load_dataset("upmc_food101", upmc, size=16, generic_share=0.5, confusion=0.0)
    assert dataset.public is not None
    assert len(dataset.train["image"]) == 4
    for caption, label in zip(dataset.public.captions, dataset.public.names):
        assert not set(dataset.class_names[label].split()) & set(caption.split())


def test_upmc_complaints(upmc: Path) -> None:
    path = upmc / "texts" / "test_titles.csv"
    path.write_text(path.read_text() + "tacos_0.jpg,Title,taco\n")
    with pytest.raises(BadInput, match=r"test_titles\.csv row 6: unknown class 'taco'. Did you mean 'tacos'"):
        load_dataset("upmc_food101", upmc)
    path.write_text("tacos_0.jpg,One, two,tacos\n")
    with pytest.raises(BadInput, match="row 1: 4 fields, expected 3"):
        load_dataset("upmc_food101", upmc)
    path.unlink()
    with pytest.raises(BadInput, match=r"test_titles\.csv: there is no such file"):
        load_dataset("upmc_food101", upmc)


def test_flowers(flowers: Path) -> None:
    dataset = load_dataset("flowers102", flowers, size=16, generic_share=0)
    assert sizes(dataset) == {
        "train image": 12,
        "train text": 112,  # one picture has two captions only
        "test image": 12,
        "test text": 110,  # one has none
        "generic": 0,
    }
    assert dataset.notes["images_without_captions"] == 1
    assert dataset.classes == 102
    assert [dataset.class_names[c] for c in np.unique(dataset.train["image"].labels)] == [
        "pink primrose",
        "canterbury bells",
        "blackberry lily",
    ]
    assert dataset.train["text"].texts[2] == "petals of picture 2 seen in way 0"  # type: ignore[union-attr]


def test_flowers_prompts_with_latin_names(flowers: Path) -> None:
    plain = load_dataset("flowers102", flowers, size=16, generic_share=0)
    assert plain.prompt(NAMES.index("rose")) == "A picture of rose."
    latin = load_dataset("flowers102", flowers, size=16, generic_share=0, latin=True)
    assert latin.prompt(NAMES.index("rose")) == "A picture of rose, also named Rosa."
    assert latin.prompt(NAMES.index("magnolia")) == "A picture of magnolia."  # Latin already
    assert LATIN.keys() <= set(NAMES)


def test_flowers_swapped_capped_and_generic(flowers: Path) -> None:
    swapped = load_dataset("flowers102", flowers, size=16, swap_train_test=True, captions=3, generic_share=0)
    assert sizes(swapped) == {
        "train image": 12,
        "train text": 33,
        "test image": 12,
        "test text": 35,
        "generic": 0,
    }
    dataset = load_dataset("flowers102", flowers, size=16, captions=1)
    assert sizes(dataset)["train text"] == sizes(dataset)["generic"] == 6
    assert dataset.public is not None
    assert not set(dataset.public.captions) & set(dataset.train["text"].texts)  # type: ignore[union-attr]
    assert all(caption.startswith("petals of picture") for caption in dataset.public.captions)
    alone = load_dataset("flowers102", flowers, size=16, captions=0, classes=["blackberry lily"])
    assert sizes(alone) == {"train image": 2, "test image": 4, "generic": 2}
    few = load_dataset("flowers102", flowers, size=16, captions=2, per_class=2, generic_share=0)
    assert sizes(few)["train image"] == 6
    assert sizes(few)["train text"] == 12  # the captions of the pictures that were kept


def test_flowers_complaints(flowers: Path) -> None:
    from scipy.io import savemat

    (flowers / "jpg" / "image_00002.jpg").unlink()
    with pytest.raises(BadInput, match=r"image_00002\.jpg: there is no such file"):
        load_dataset("flowers102", flowers)
    skipped = load_dataset("flowers102", flowers, on_bad="skip", generic_share=0)
    assert len(skipped.train["image"]) == 11
    savemat(flowers / "setid.mat", {"trnid": [[1]], "valid": [[99]], "tstid": [[2]]})
    with pytest.raises(BadInput, match=r"setid\.mat: image number 99, but imagelabels\.mat has labels for 1\.\.24"):
        load_dataset("flowers102", flowers)
    savemat(flowers / "setid.mat", {"trnid": [[1]]})
    with pytest.raises(BadInput, match="no variable 'valid'"):
        load_dataset("flowers102", flowers)
    (flowers / "setid.mat").write_bytes(b"not a matlab file, not at all" * 20)
    with pytest.raises(BadInput, match=r"setid\.mat: cannot be read as a MATLAB file"):
        load_dataset("flowers102", flowers)
    savemat(flowers / "imagelabels.mat", {"labels": [[0, 3]]})
    with pytest.raises(BadInput, match=r"labels 0\.\.3, allowed: 1\.\.102"):
        load_dataset("flowers102", flowers)


def test_flower_names() -> None:
    assert len(set(NAMES)) == 102
    assert (NAMES[0], NAMES[49], NAMES[73], NAMES[101]) == (
        "pink primrose",
        "common dandelion",
        "rose",
        "blackberry lily",
    )
