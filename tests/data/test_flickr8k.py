"""Flickr8k from a miniature of its layout, as Parquet, and a real slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from captioned_files import counted, sizes, slice_of

from conftest import picture
from fedloom.data.datasets.coco import coco
from fedloom.data.datasets.flickr import flickr8k
from fedloom.errors import BadInput


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


def test_the_real_flickr8k() -> None:
    root = slice_of("flickr8k")
    pairs = flickr8k(root, size=16, most=100)
    assert sizes(pairs) == {"train": (100, 500), "val": (100, 500), "test": (100, 500)}
    small = flickr8k(root / "official_layout", size=16)
    assert sizes(small) == {"train": (16, 80), "val": (4, 20), "test": (4, 20)}
    assert counted(pairs) == counted(small) == {}
    assert "A man picking up a big rock ." in small["train"].captions + small["val"].captions + small["test"].captions
