"""Flickr30k in Karpathy's splits from a miniature of its layout, with the awkward rows that real ones have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioned_files import Json, change, counted, karpathy_image, sizes
from PIL import Image

from conftest import picture, truncate
from fedloom.data.datasets.flickr import flickr30k
from fedloom.errors import BadInput


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
