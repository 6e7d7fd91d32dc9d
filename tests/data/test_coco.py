"""MS-COCO from miniatures of its layouts, in Karpathy's splits and the official ones, and a real slice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from captioned_files import Json, change, counted, karpathy_image, sizes, slice_of

from conftest import picture
from fedloom.data.datasets.coco import coco
from fedloom.errors import BadInput


@pytest.fixture
def karpathy_coco(tmp_path: Path) -> Path:
    """COCO by Karpathy's splits: names differ by folder only for two of them; one picture has 6 captions."""
    images = []
    for n, split in enumerate(["test", "restval", "train", "val", "restval", "train"]):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{391895 + n:012d}.jpg"
        picture(tmp_path / folder / name, n % 4, n)
        images.append(karpathy_image(n, name, split, 6 if n == 2 else 5, filepath=folder, cocoid=391895 + n))
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return tmp_path


def test_coco_karpathy(karpathy_coco: Path) -> None:
    pairs = coco(karpathy_coco, size=16)
    assert sizes(pairs) == {"train": (4, 20), "val": (1, 5), "test": (1, 5)}
    assert [c.split()[-2] for c in pairs["train"].captions[::5]] == ["1", "2", "4", "5"]
    assert counted(pairs) == {"captions_surplus": 1}
    assert pairs.notes["annotations"] == "karpathy"
    without = coco(karpathy_coco, size=16, restval=False)
    assert sizes(without) == {"train": (2, 10), "val": (1, 5), "test": (1, 5)}
    assert counted(without) == {"captions_surplus": 1, "images_of_restval": 2}
    merged = karpathy_coco / "allimages"
    merged.mkdir()
    for folder in ("train2014", "val2014"):
        for file in list((karpathy_coco / folder).iterdir()):
            file.rename(merged / file.name)
    again = coco(karpathy_coco, size=16)
    assert (again["train"].images == pairs["train"].images).all()
    (merged / "COCO_val2014_000000391898.jpg").unlink()
    assert counted(coco(karpathy_coco, size=16, parts=["test"])) == {}  # what is not asked for is not opened
    with pytest.raises(BadInput, match=r"391898\.jpg: there is no such file"):
        coco(karpathy_coco, size=16)


def official(root: Path, year: int) -> Path:
    """Official annotations: annotations not in the order of images; a license block; 6 captions for one."""
    (root / "annotations").mkdir(exist_ok=True)
    for part, ids in (("train", (84533, 9, 493652)), ("val", (117645, 25))):
        images, annotations = [], []
        for n, key in enumerate(ids):
            name = f"{key:012d}.jpg" if year == 2017 else f"COCO_{part}{year}_{key:012d}.jpg"
            picture(root / f"{part}{year}" / name, n, key)
            images.append({"license": 3, "file_name": name, "height": 16, "width": 20, "id": key})
        for c in range(6):
            for key in reversed(ids):
                if c < 5 or key == 9:
                    caption = f"caption {c} of {key}.\n"
                    annotations.append({"image_id": key, "id": 10 * key + c, "caption": caption})
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        (root / "annotations" / f"captions_{part}{year}.json").write_text(json.dumps(content))
    return root


def test_coco_official(tmp_path: Path) -> None:
    pairs = coco(official(tmp_path, 2014), size=16)
    assert sizes(pairs) == {"train": (3, 15), "val": (2, 10)}
    assert pairs["train"].of(1) == tuple(f"caption {c} of 9." for c in range(5))
    assert counted(pairs) == {"captions_surplus": 1}
    official(tmp_path, 2017)
    (tmp_path / "annotations" / "captions_train2014.json").write_text("2017 comes first")
    assert sizes(coco(tmp_path, size=16)) == sizes(pairs)
    with pytest.raises(BadInput, match="coco: no part 'test', there are: train, val"):
        coco(tmp_path, size=16, parts=["train", "val", "test"])
    (tmp_path / "annotations" / "captions_train2017.json").write_text("not asked for")
    assert sizes(coco(tmp_path, size=16, parts=["val"])) == {"val": (2, 10)}


def test_coco_official_rows(tmp_path: Path) -> None:
    path = official(tmp_path, 2017) / "annotations" / "captions_train2017.json"

    def edit(content: Json) -> None:
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 84533]
        content["annotations"] += [{"image_id": 77, "id": 1, "caption": "whose?"}, content["annotations"][0]]

    change(path, edit)
    pairs = coco(tmp_path, size=16)
    assert sizes(pairs)["train"] == (2, 10)
    assert counted(pairs) == {
        "captions_repeated": 1,
        "captions_surplus": 1,
        "captions_without_image": 1,
        "images_without_captions": 1,
    }
    for change_one, says in (
        (
            lambda c: c["images"].append(c["images"][0]),
            r"train2017\.json images\[3\]: id 84533 is that of .*images\[0\]",
        ),
        (lambda c: c["images"].__setitem__(3, {"id": 1}), r"images\[3\]: no 'file_name', it has: id"),
        (
            lambda c: (c["images"].pop(), c["annotations"].append({"id": 3})),
            r"annotations\[\d+\]: no 'image_id', it has: id",
        ),
        (lambda c: c.pop("annotations"), r"train2017\.json: no 'annotations', it has: info"),
    ):
        change(path, change_one)
        with pytest.raises(BadInput, match=says):
            coco(tmp_path, size=16)


def test_coco_complaints(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no captions of COCO found. Expected layout: dataset_coco\.json"):
        coco(tmp_path)
    with pytest.raises(BadInput, match=r"unknown annotations 'karpaty'\. Did you mean 'karpathy'"):
        coco(tmp_path, annotations="karpaty")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"dataset_coco\.json: there is no such file"):
        coco(tmp_path, annotations="karpathy")
    (tmp_path / "annotations").mkdir()
    with pytest.raises(BadInput, match=r"annotations: no captions_\{train,val\}2017\.json"):
        coco(tmp_path)
    official(tmp_path, 2017)
    for file in (tmp_path / "val2017").iterdir():
        file.unlink()
    (tmp_path / "val2017").rmdir()
    with pytest.raises(BadInput, match=r"val2017: there is no such folder. Expected layout"):
        coco(tmp_path, size=16)


def test_the_real_coco() -> None:
    root = slice_of("coco2017_mini")
    pairs, small = coco(root, size=16), coco(root / "official_layout", size=16)
    assert sizes(pairs) == {"train": (80, 400), "val": (159, 795)}  # val_extra.parquet goes to val
    assert sizes(small) == {"train": (12, 60), "val": (12, 60)}
    assert counted(pairs) == counted(small) == {}
    everything = dict(zip(pairs["train"].captions, pairs["train"].owner))
    shared = [i for i in range(12) if small["train"].of(i)[0] in everything]
    assert shared  # the same pictures, once small and once as published
    for i in shared:
        there = pairs["train"].images[everything[small["train"].of(i)[0]]].astype(int)
        assert np.abs(there - small["train"].images[i]).mean() < 12
