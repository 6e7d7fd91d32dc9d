"""`mixed`: several sets side by side, from miniatures with awkward rows, and from the real slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import SLICES, picture
from fedloom.data.containers import ImageSet, TextSet
from fedloom.data.datasets.caption_parquet import load as caption_parquet
from fedloom.data.datasets.mixed import load
from fedloom.data.registry import load_pairs
from fedloom.errors import BadInput

Set = dict[str, Any]


def write(path: Path, rows: list[tuple[Any, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [cell for cell, _ in rows], "captions": [captions for _, captions in rows]}
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def captioned(tmp_path: Path) -> Set:
    """Captioned pictures: 6 train (one with six captions, one with a blank one, one with none), 2 val, 2 extra."""
    cells = [picture(tmp_path / "cells" / f"{i}.png", i % 4, i).read_bytes() for i in range(10)]
    captions: list[Any] = [[f"caption {i} of {n}" for i in range(5)] for n in range(10)]
    captions[1].append("a sixth")
    captions[2][3] = "  "
    captions[4] = None
    root = tmp_path / "captioned"
    rows = list(zip(cells, captions))
    for name, part in (("train", rows[:6]), ("val", rows[6:8]), ("val_extra", rows[8:])):
        write(root / f"{name}.parquet", part)
    return {"name": "caption_parquet", "root": str(root)}


@pytest.fixture
def news(tmp_path: Path) -> Set:
    """AG News: ten rows a class in train, an empty one, two a class in test."""
    root = tmp_path / "news"
    root.mkdir()
    for part, n in (("train", 10), ("test", 2)):
        rows = [f'"{c}","Title {i}, ""quoted""","about topic {c}"' for i in range(n) for c in (1, 2, 3, 4)]
        (root / f"{part}.csv").write_text("\n".join([*rows, '"1"," ",""']) + "\n", encoding="utf-8")
    return {"name": "ag_news", "root": str(root)}


def parts_of(captioned: Set) -> Set:
    return {**captioned, "files": {"train": ["train.parquet", "val.parquet"], "test": "val_extra.parquet"}}


def test_four_sets_as_one_dataset(captioned: Set, news: Set, food: Path) -> None:
    image = {"name": "food101", "root": str(food)}
    dataset = load(image, news, captioned, parts_of(captioned), size=12, public_pairs=20, seed=1)
    assert {m: len(held) for m, held in dataset.train.items()} == {"image": 12, "text": 28, "pair": 5}
    assert {m: len(held) for m, held in dataset.test.items()} == {"image": 6, "text": 8, "pair": 4}
    assert dataset.class_names == ("apple pie", "beet salad", "ceviche")
    assert dataset.text_class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert dataset.notes["text"]["empty_texts"] == 2
    assert dataset.notes["pair"]["captions_surplus"] == dataset.notes["pair"]["images_without_captions"] == 1
    images, texts = dataset.train["image"], dataset.train["text"]
    assert isinstance(images, ImageSet)
    assert isinstance(texts, TextSet)
    assert images.images.shape[1:] == dataset.pairs("train").images.shape[1:] == (12, 12, 3)
    assert np.bincount(texts.labels).tolist() == [7] * 4
    generic, own = dataset.public, dataset.public_test
    assert own is not None
    assert generic is not None
    assert len(own) == 2
    assert len(generic.texts) == 12
    assert not set(own.captions) & set(generic.captions)
    whole = caption_parquet(captioned["root"], size=12, files=parts_of(captioned)["files"])["train"]
    assert len(whole.captions) == 34  # 4 x 5, 4 and, from val, 2 x 5
    at = [whole.captions.index(c) for c in generic.captions]
    assert at == sorted(set(at))  # drawn without repetition, in the order of the file
    assert len(at) == 20
    assert np.array_equal(generic.images, whole.images[whole.owner[at]])
    assert not generic.names.any()
    other = load(public=parts_of(captioned), size=12, public_pairs=20, seed=2).public
    assert other is not None
    assert other.captions != generic.captions


def test_parts_may_be_absent(captioned: Set, news: Set) -> None:
    dataset = load(text=news, public=captioned, size=12, text_share=0)
    assert set(dataset.train) == {"text"}
    assert len(dataset.train["text"]) == 40
    assert dataset.one_label_space
    assert dataset.names_of("text")[0] == "World"
    assert dataset.public is not None
    assert len(dataset.public.captions) == 24  # all there are
    assert dataset.public.texts == ()
    assert dataset.public_test is not None
    assert dataset.public_test.captions[0] == "caption 0 of 6"  # val, as there is no test
    assert load(public=captioned, size=12).train == {}


def test_one_set_for_pictures_and_texts_keeps_two_label_spaces(captioned: Set) -> None:
    flora = {"name": "flora", "images": 20, "texts": 20, "test": 20, "generic": 10, "reference": 10}
    dataset = load(flora, {**flora, "seed": 5}, public=captioned, size=12)
    assert dataset.text_class_names == dataset.class_names
    assert not dataset.one_label_space


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"public": None}, "mixed: no public set"),
        ({"public_pairs": 25}, "public_pairs=25, allowed: 1 to 24"),
        ({"text_share": 1.0}, "text_share=1.0, allowed: 0 up to"),
        ({"image": {"name": "ag_news"}}, "image.name='ag_news' has no images, allowed: cifar100"),
        ({"image": {"name": "mixed"}}, "image.name='mixed' has no images"),
        ({"image": {"name": "cifar10"}}, "mixed: image: unknown data set 'cifar10'. Did you mean 'cifar100'"),
        ({"image": {"name": "digits", "size": 9}}, "mixed: image.size=9, but all pictures have one size"),
        ({"image": {"name": "digits", "sed": 9}}, "mixed: image: data set 'digits' has no option 'sed'"),
        ({"image": "digits"}, "mixed: image='digits', expected a mapping with `name`"),
        ({"pair": {"name": "coco"}}, "mixed: pair: set of pairs 'coco' needs root"),
        ({"pair": {"name": "flora"}}, "mixed: pair: unknown set of pairs 'flora'"),
    ],
)
def test_complaints(captioned: Set, options: Set, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(**{"public": captioned, "size": 12, **options})


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"test": "no.parquet"}, r"no\.parquet: there is no such file"),
        ({"tset": "val.parquet"}, "unknown part of files 'tset'. Did you mean 'test'"),
        (
            {"train": "val.parquet", "test": ["val.parquet"]},
            r"files.test: 'val.parquet' is named for train already",
        ),
        ({"train": "../val.parquet"}, "files.train: file name '../val.parquet', expected one inside"),
        ({}, "files={}, allowed: the names of files for each of train"),
    ],
)
def test_complaints_of_named_files(captioned: Set, files: Set, says: str) -> None:
    for name in ("caption_parquet", "coco"):
        with pytest.raises(BadInput, match=says):
            load_pairs(name, captioned["root"], files=files)
    with pytest.raises(BadInput, match="files name parquet files, but annotations='karpathy'"):
        load_pairs("coco", captioned["root"], files=files, annotations="karpathy")


def test_the_real_slices() -> None:
    roots = {name: SLICES / name for name in ("flickr8k", "coco2017_mini", "ag_news")}
    for root in roots.values():
        if not root.is_dir():
            pytest.skip(f"real data slice not found: {root} (set FEDLOOM_TEST_DATA)")
    files = {"train": ["train.parquet", "val.parquet"], "test": "val_extra.parquet"}
    dataset = load(
        text={"name": "ag_news", "root": str(roots["ag_news"])},
        pair={"name": "flickr8k", "root": str(roots["flickr8k"]), "most": 60},
        public={"name": "coco", "root": str(roots["coco2017_mini"]), "files": files},
        size=16,
        public_pairs=500,
    )
    assert {m: len(held) for m, held in dataset.train.items()} == {"text": 4200, "pair": 60}
    assert dataset.public is not None
    assert (len(dataset.public.images), len(dataset.public.texts)) == (500, 1800)
    assert dataset.public_test is not None
    assert (len(dataset.public_test), len(dataset.public_test.captions)) == (80, 400)
