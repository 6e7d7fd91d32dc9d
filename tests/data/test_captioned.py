"""Flickr30k, Flickr8k and MS-COCO from miniatures of their layouts, with the awkward rows that real ones have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import SLICES, picture, truncate
from fedloom.data.datasets.coco import coco
from fedloom.data.datasets.flickr import flickr8k, flickr30k
from fedloom.data.pairs import ImageTextPairs, Pairs
from fedloom.errors import BadInput

Json = dict[str, Any]


def sizes(pairs: Pairs) -> dict[str, tuple[int, int]]:
    return {part: (len(own), len(own.captions)) for part, own in pairs.parts.items()}


def counted(pairs: Pairs) -> Json:
    """What was counted, without zeros."""
    return {key: n for key, n in pairs.notes.items() if n and key not in ("unreadable_examples", "annotations")}


def change(path: Path, edit: Callable[[Json], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


# --- ImageTextPairs


def pair_set() -> ImageTextPairs:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), dtype=np.uint8)
    return ImageTextPairs(images, ("a0", "a1", "b0", "c0", "c1", "c2"), np.array([0, 0, 1, 2, 2, 2]))


def test_subset_takes_the_captions_along() -> None:
    pairs = pair_set()
    assert len(pairs) == 3
    assert pairs.starts.tolist() == [0, 2, 3, 6]
    assert [pairs.of(i) for i in range(3)] == [("a0", "a1"), ("b0",), ("c0", "c1", "c2")]
    some = pairs.subset([2, 0, 2])
    assert some.captions == ("c0", "c1", "c2", "a0", "a1", "c0", "c1", "c2")
    assert some.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert some.images[:, 0, 0, 0].tolist() == [2, 0, 2]
    again = pairs.subset(np.arange(3))
    assert again.captions == pairs.captions
    assert (again.owner == pairs.owner).all()
    assert len(pairs.subset([])) == 0
    assert pairs.subset([-1]).captions == ("c0", "c1", "c2")
    with pytest.raises(IndexError):
        pairs.subset([3])


@pytest.mark.parametrize(
    ("owner", "captions", "says"),
    [
        ([0, 1], 3, r"owner is int64 \(2,\), expected integers \(3,\)"),
        ([0.0, 1, 2], 3, "owner is float64"),
        ([0, 1, 3], 3, r"a caption of image 3, but there are images 0\.\.2"),
        ([-1, 1, 2], 3, "a caption of image -1"),
        ([0, 2, 1], 3, "caption 2 belongs to an earlier image"),
        ([0, 2, 2], 3, "image 1 has no caption"),
    ],
)
def test_pair_set_complaints(owner: list[float], captions: int, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        ImageTextPairs(np.zeros((3, 2, 2, 3), dtype=np.uint8), ("x",) * captions, np.array(owner))


def test_pair_set_wants_rgb_bytes() -> None:
    with pytest.raises(BadInput, match=r"uint8 \(N, H, W, 3\), not float64 \(1, 2, 2, 3\)"):
        ImageTextPairs(np.zeros((1, 2, 2, 3)), ("x",), np.array([0]))  # type: ignore[arg-type]


# --- Karpathy's splits


def karpathy_image(n: int, name: str, split: str, captions: int = 5, **more: Any) -> Json:
    sentences = [
        {"raw": f"caption {c} of picture {n} .", "tokens": ["caption"], "imgid": n, "sentid": 10 * n + c}
        for c in range(captions)
    ]
    sentids = [s["sentid"] for s in sentences]
    return {"filename": name, "imgid": n, "sentids": sentids, "split": split, "sentences": sentences, **more}


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    """Flickr30k: ids with a gap, 4 train, 2 val and 2 test pictures, out of order in the file."""
    splits = ["train", "test", "train", "val", "train", "test", "val", "train"]
    images = []
    for n, split in enumerate(splits):
        name = f"{1000092795 + 7 * n}.jpg"
        picture(tmp_path / "flickr30k-images" / name, n % 4, n)
        images.append(karpathy_image(n, name, split))
    images[0]["sentences"][0]["raw"] = "  Zwei junge Männer, 東京 🙂\tand\n a\u2028dog .\n"
    text = json.dumps({"images": images, "dataset": "flickr30k"})
    (tmp_path / "dataset_flickr30k.json").write_text(text)
    return tmp_path


def test_flickr30k(flickr: Path) -> None:
    pairs = flickr30k(flickr, size=16)
    assert sizes(pairs) == {"train": (4, 20), "val": (2, 10), "test": (2, 10)}
    assert pairs["train"].captions[0] == "Zwei junge Männer, 東京 🙂 and a dog ."
    assert pairs["test"].of(1)[2] == "caption 2 of picture 5 ."
    assert pairs["train"].images.shape == (4, 16, 16, 3)
    assert pairs["val"].images[0].mean((0, 1)).argmax() == 0  # picture 3 is reddish, see conftest
    assert counted(pairs) == {}
    again = flickr30k(flickr, size=16, parts=["test", "train"])
    assert list(again.parts) == ["test", "train"]
    assert (again["train"].images == pairs["train"].images).all()
    with pytest.raises(BadInput, match="flickr30k: no part 'val', there are: test, train"):
        again["val"]


def test_numbers_of_captions(flickr: Path) -> None:
    def edit(content: Json) -> None:
        images = content["images"]
        images[0] = karpathy_image(0, images[0]["filename"], "train", 7)
        images[1]["sentences"] = images[1]["sentences"][:2]
        images[2]["sentences"] = []
        for s in images[4]["sentences"]:
            s["raw"] = " \n"
        images[5]["sentences"][1]["sentid"] = images[3]["sentences"][0]["sentid"]

    change(flickr / "dataset_flickr30k.json", edit)
    pairs = flickr30k(flickr, size=16)
    assert sizes(pairs) == {"train": (2, 10), "val": (2, 10), "test": (2, 6)}
    assert counted(pairs) == {
        "captions_empty": 5,
        "captions_repeated": 1,
        "captions_surplus": 2,
        "images_without_captions": 2,
        "images_with_fewer_captions": 2,
    }
    everything = flickr30k(flickr, size=16, captions_per_image=None)
    assert sizes(everything)["train"] == (2, 12)
    assert sizes(flickr30k(flickr, size=16, captions_per_image=1))["test"] == (2, 2)


def test_most_is_a_choice_by_name(flickr: Path) -> None:
    whole, some = flickr30k(flickr, size=16), flickr30k(flickr, size=16, most=2, seed=1)
    assert sizes(some) == {"train": (2, 10), "val": (2, 10), "test": (2, 10)}
    assert set(some["train"].captions) < set(whole["train"].captions)
    place = [whole["train"].captions.index(c) for c in some["train"].captions]
    assert place == sorted(place)
    (flickr / "flickr30k-images").rename(flickr / "images")
    change(flickr / "dataset_flickr30k.json", lambda content: content["images"].reverse())
    moved = flickr30k(flickr, size=16, most=2, seed=1)
    assert set(moved["train"].captions) == set(some["train"].captions)
    assert {flickr30k(flickr, size=16, most=1, seed=s)["train"].captions for s in range(8)} != {some["train"].captions}


MODES = ["L", "LA", "P", "PA", "RGBA", "CMYK", "1", "I;16", "RGB"]


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_any_mode(flickr: Path, mode: str) -> None:
    """Red, grey, white or transparent (on white); under a .jpg name, whatever the format is."""
    name = json.loads((flickr / "dataset_flickr30k.json").read_text())["images"][0]["filename"]
    base = Image.new("RGB", (24, 40), (255, 255, 255) if mode == "1" else (200, 40, 40))
    if mode == "I;16":
        found = Image.fromarray(np.full((40, 24), 40_000, dtype=np.uint16))
    elif mode.startswith("P"):
        found = base.quantize(4)
        if mode == "PA":  # its colour is the transparent one
            found.info["transparency"] = found.getpixel((0, 0))
    else:
        found = base.convert(mode)
    kind = "JPEG" if mode in ("L", "CMYK", "RGB") else "PNG"
    found.save(flickr / "flickr30k-images" / name, kind)
    image = flickr30k(flickr, size=16, parts=["train"])["train"].images[0].astype(int)
    assert image.shape == (16, 16, 3)
    assert np.ptp(image, axis=(0, 1)).max() < 6
    centre = image.mean((0, 1))
    if mode in ("RGB", "RGBA", "CMYK", "P"):
        assert centre == pytest.approx([200, 40, 40], abs=30)
    elif mode in ("PA", "1"):
        assert centre == pytest.approx([255, 255, 255])
    else:
        assert np.ptp(centre) < 2


def test_pictures_that_cannot_be_read(flickr: Path) -> None:
    names = [i["filename"] for i in json.loads((flickr / "dataset_flickr30k.json").read_text())["images"]]
    folder = flickr / "flickr30k-images"
    truncate(picture(folder / names[2], 2, 2, side=(64, 64)))
    with pytest.raises(BadInput, match=rf"cannot read picture .*{names[2]}.*on_bad='skip'"):
        flickr30k(flickr, size=16)
    (folder / names[0]).unlink()
    with pytest.raises(BadInput, match=rf"{names[0]}: there is no such file"):
        flickr30k(flickr, size=16)
    (folder / names[3]).write_bytes(b"")
    pairs = flickr30k(flickr, size=16, on_bad="skip")
    assert sizes(pairs) == {"train": (2, 10), "val": (1, 5), "test": (2, 10)}
    assert pairs["train"].captions[0] == "caption 0 of picture 4 ."
    assert pairs["val"].captions[0] == "caption 0 of picture 6 ."
    assert counted(pairs) == {"unreadable_images": 3}
    assert [Path(p).name for p in pairs.notes["unreadable_examples"]] == [names[0], names[2], names[3]]
    (folder / names[6]).unlink()
    with pytest.raises(BadInput, match=rf"none of the 2 val pictures can be used, the first is .*{names[3]}"):
        flickr30k(flickr, size=16, on_bad="skip")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            lambda i: i[1].update(split="tset"),
            r"images\[1\] \(1000092802\.jpg\): unknown split 'tset'. Did you mean 'test'",
        ),
        (lambda i: i[1].update(imgid=0), r"images\[1\]: imgid 0 is that of images\[0\] already"),
        (
            lambda i: i[1].update(filename=i[0]["filename"]),
            r"images\[1\]: file 1000092795\.jpg is that of images\[0\]",
        ),
        (
            lambda i: i[1].update(filename="../secret.jpg"),
            r"images\[1\]: file name '\.\./secret\.jpg', expected one inside",
        ),
        (lambda i: i[1].update(filename="/etc/passwd"), "file name '/etc/passwd', expected one inside"),
        (lambda i: i[1].update(filename=7), r"images\[1\]: filename=7, expected text"),
        (lambda i: i[1].pop("sentences"), r"images\[1\]: no 'sentences', it has: filename, imgid"),
        (lambda i: i[1].update(sentences={}), r"sentences=\{\}, expected a list"),
        (lambda i: i[1]["sentences"].append("x"), r"images\[1\]: 'x', expected an object"),
        (lambda i: i[1]["sentences"][0].update(raw=None), "raw=None, expected text"),
        (lambda i: i[1]["sentences"][0].update(raw="half \ud83d"), r"caption 'half \\ud83d' is no text"),
        (lambda i: i[1].update(imgid=True), "imgid=True, expected a whole number"),
        (lambda i: i.insert(0, None), r"images\[0\]: None, expected an object"),
    ],
)
def test_karpathy_complaints(flickr: Path, edit: Callable[[list[Any]], object], says: str) -> None:
    change(flickr / "dataset_flickr30k.json", lambda content: edit(content["images"]))
    with pytest.raises(BadInput, match=says) as caught:
        flickr30k(flickr, size=16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"parts": ["dev"]}, "unknown part 'dev'. Allowed: test, train, val|unknown part 'dev'"),
        ({"parts": "train"}, "parts='train', allowed: a list of train, val, test"),
        ({"parts": []}, "allowed: a list"),
        ({"most": 0}, "most=0, allowed: a whole number from 1"),
        ({"captions_per_image": True}, "captions_per_image=True, allowed"),
        ({"size": 4}, "size=4"),
        ({"on_bad": "ignore"}, "on_bad='ignore'"),
    ],
)
def test_options_out_of_range(flickr: Path, options: Json, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        flickr30k(flickr, **options)


def test_flickr30k_files(flickr: Path) -> None:
    path = flickr / "dataset_flickr30k.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(BadInput, match=r"dataset_flickr30k\.json: not JSON \(line 1"):
        flickr30k(flickr)
    path.write_text("[]")
    with pytest.raises(BadInput, match=r"\[\], expected an object"):
        flickr30k(flickr)
    path.write_text('{"images": []}')
    with pytest.raises(BadInput, match="flickr30k: no pictures in any part"):
        flickr30k(flickr)
    path.unlink()
    with pytest.raises(BadInput, match=r"there is no such file. Expected layout: dataset_flickr30k\.json"):
        flickr30k(flickr)


# --- Flickr8k


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    """Flickr8k: 3 / 1 / 2 pictures; one on no list; captions of a name that is no file, as in the real token file."""
    lines = []
    for n in range(7):
        picture(tmp_path / "Flicker8k_Dataset" / f"{n}_ab.jpg", n % 4, n)
        lines += [f"{n}_ab.jpg#{c}\tA dog , number {c} of {n} ." for c in range(5)]
    lines += ["22_bc.jpg.1#0\tA caption of nothing .", "0_ab.jpg#0\tThe same id again ."]
    (tmp_path / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n\n")
    for name, own in (("train", (4, 0, 2)), ("dev", (1,)), ("test", (3, 5))):
        (tmp_path / f"Flickr_8k.{name}Images.txt").write_text("".join(f"{n}_ab.jpg\n" for n in own))
    return tmp_path


def test_flickr8k(eight: Path) -> None:
    pairs = flickr8k(eight, size=16)
    assert sizes(pairs) == {"train": (3, 15), "val": (1, 5), "test": (2, 10)}
    assert pairs["train"].of(0)[1] == "A dog , number 1 of 4 ."  # the order of the list
    assert counted(pairs) == {"captions_repeated": 1, "captions_without_image": 6}


def test_flickr8k_complaints(eight: Path) -> None:
    tokens = eight / "Flickr8k.token.txt"
    whole = tokens.read_text()
    for line in ("0_ab.jpg#1 no tab", "0_ab.jpg\tno number", "#1\tno name", "0_ab.jpg#x\tno number"):
        tokens.write_text(whole.rstrip("\n") + "\n" + line + "\n")
        with pytest.raises(BadInput, match=r"token\.txt line 38: '.*', expected <file>#<number> TAB <caption>"):
            flickr8k(eight)
    tokens.write_text(whole)
    path = eight / "Flickr_8k.testImages.txt"
    path.write_text(path.read_text() + "7_ab.jpg\n")
    assert counted(flickr8k(eight, size=16))["images_without_captions"] == 1
    path.write_text("0_ab.jpg\n")
    with pytest.raises(BadInput, match=r"testImages\.txt: '0_ab\.jpg' is listed already, in Flickr_8k\.trainImages"):
        flickr8k(eight)
    path.unlink()
    with pytest.raises(BadInput, match=r"testImages\.txt: there is no such file. Expected layout: Flicker8k"):
        flickr8k(eight)


def parquet(path: Path, rows: list[tuple[Any, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array([r[0] for r in rows], kind), "captions": [r[1] for r in rows]}
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet(eight: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = [(eight / "Flicker8k_Dataset" / f"{n}_ab.jpg").read_bytes() for n in range(4)]
    cells = [{"bytes": b, "path": f"{n}.jpg"} for n, b in enumerate(raw)]
    root = tmp_path_factory.mktemp("parquet")
    parquet(root / "train-00001-of-00002.parquet", [(cells[1], ["d", "e", "f"])])
    parquet(root / "train-00000-of-00002.parquet", [(cells[0], ["a", "", "c"]), (cells[2], None)])
    (root / "3.jpg").write_bytes(raw[3])
    parquet(root / "val.parquet", [({"bytes": None, "path": "3.jpg"}, ["é"])])
    for pairs in (flickr8k(root, size=16), coco(root, size=16)):
        assert sizes(pairs) == {"train": (2, 5), "val": (1, 1)}
        assert pairs["train"].captions == ("a", "c", "d", "e", "f")
        want = {"captions_empty": 1, "images_without_captions": 1, "images_with_fewer_captions": 3}
        assert counted(pairs) == want
    for rows, says in (
        ([({"bytes": None, "path": None}, ["a"])], r"val\.parquet row 0: no picture"),
        (
            [({"bytes": None, "path": "../x.jpg"}, ["a"])],
            r"row 0: file name '\.\./x\.jpg', expected one inside",
        ),
        ([(cells[3], ["a"]), (cells[3], ["b"])], r"row 1: picture '3\.jpg' is that of .*row 0 already"),
        ([(cells[3], ["a", None])], r"row 0: captions \['a', None\], expected a list of strings"),
        ([(cells[3], "a")], "column 'captions' is string, allowed: a list of strings"),
    ):
        parquet(root / "val.parquet", rows)
        with pytest.raises(BadInput, match=says):
            flickr8k(root, size=16)
    (root / "val.parquet").write_bytes(b"PAR1 not PAR1")
    with pytest.raises(BadInput, match=r"val\.parquet: not a complete parquet file"):
        coco(root)


# --- MS-COCO


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


# --- real slices


def slice_of(name: str) -> Path:
    if not (SLICES / name).is_dir():
        pytest.skip(f"real data slice not found: {SLICES / name} (set FEDLOOM_TEST_DATA)")
    return SLICES / name


def test_the_real_flickr8k() -> None:
    root = slice_of("flickr8k")
    pairs = flickr8k(root, size=16, most=100)
    assert sizes(pairs) == {"train": (100, 500), "val": (100, 500), "test": (100, 500)}
    small = flickr8k(root / "official_layout", size=16)
    assert sizes(small) == {"train": (16, 80), "val": (4, 20), "test": (4, 20)}
    assert counted(pairs) == counted(small) == {}
    assert "A man picking up a big rock ." in small["train"].captions + small["val"].captions + small["test"].captions


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
