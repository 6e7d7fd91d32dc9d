"""CIFAR-100 from miniatures of its two official layouts, the pickles as Python 2 wrote them."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import SLICES
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.data.io.plain_pickle import read_plain
from fedloom.data.registry import load_dataset
from fedloom.errors import BadInput

FINE = ["apple", "aquarium_fish", "maple_tree"]
COARSE = ["fish", "fruit_and_vegetables"]
GROUP = [1, 0, 1]  # the coarse label of each fine one, to have one that differs
Planes = NDArray[np.uint8]


def planes(part: str) -> tuple[Planes, list[int]]:
    """uint8 (N, 3072) and fine labels: 4 pictures a class in train, 2 in test; red is 100 + row, green 50, blue 7."""
    labels = [c for _ in range(4 if part == "train" else 2) for c in (2, 0, 1)]
    data = np.empty((len(labels), 3, 1024), dtype=np.uint8)
    data[:, 0] = 100 + np.arange(len(labels))[:, None]
    data[:, 1], data[:, 2] = 50, 7
    data[:, 0, 1] = 200  # one pixel to the right of the upper left corner
    return data.reshape(-1, 3072), labels


def python2(value: Any) -> bytes:
    """The opcodes of protocol 2 as Python 2's cPickle writes them: text and bytes are the same."""
    if isinstance(value, dict):
        pairs = b"".join(python2(k) + python2(v) for k, v in value.items())
        return b"}(" + pairs + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, (str, bytes)):
        raw = value.encode() if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(raw)) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + python2("b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + python2(value.dtype.str[1:]) + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + python2("|") + b"NNN" + python2(-1) + python2(-1) + b"K\x00tb"
    shape = python2(value.shape[0]) + python2(value.shape[1]) + b"\x86"
    return made + b"(K\x01" + shape + kind + b"\x89" + python2(value.tobytes()) + b"tb"


def write(path: Path, value: Any) -> None:
    path.write_bytes(b"\x80\x02" + python2(value) + b".")


def content(part: str, **changes: Any) -> dict[str, Any]:
    data, labels = planes(part)
    names = [f"picture_s_{n:06d}.png" for n in range(len(labels))]
    whole = {"filenames": names, "batch_label": "training batch 1 of 1", "fine_labels": labels}
    return {**whole, "coarse_labels": [GROUP[c] for c in labels], "data": data, **changes}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for part in ("train", "test"):
        write(folder / part, content(part))
    write(folder / "meta", {"fine_label_names": FINE, "coarse_label_names": COARSE})
    return tmp_path


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for part in ("train", "test"):
        data, labels = planes(part)
        heads = np.array([[GROUP[c], c] for c in labels], dtype=np.uint8)
        (folder / f"{part}.bin").write_bytes(np.hstack([heads, data]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n\n")  # as published
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    return tmp_path


def images(dataset: FederatedDataset, part: str = "train") -> ImageSet:
    samples = getattr(dataset, part)["image"]
    assert isinstance(samples, ImageSet)
    return samples


def check(dataset: FederatedDataset) -> None:
    assert dataset.class_names == ("apple", "aquarium fish", "maple tree")
    assert images(dataset).labels.tolist() == [2, 0, 1] * 4
    assert images(dataset, "test").labels.tolist() == [2, 0, 1] * 2
    assert images(dataset).images.shape == (12, 32, 32, 3)
    assert images(dataset).images[5, 31, 31].tolist() == [105, 50, 7]
    assert images(dataset).images[5, 0, :3, 0].tolist() == [105, 200, 105]  # rows first, then columns
    assert dataset.public is None


def test_python_layout(python: Path) -> None:
    dataset = load_dataset("cifar100", python, generic_share=0)
    check(dataset)
    assert dataset.notes["layout"] == "python"
    check(load_dataset("cifar100", python / "cifar-100-python", generic_share=0))
    plain = pickle.loads((python / "cifar-100-python" / "train").read_bytes(), encoding="bytes")  # our own file
    assert (plain[b"data"] == planes("train")[0]).all()


def test_binary_layout_comes_first(python: Path, binary: Path) -> None:
    (python / "cifar-100-python" / "train").write_bytes(b"never read")
    dataset = load_dataset("cifar100", binary, generic_share=0)
    check(dataset)
    assert dataset.notes["layout"] == "binary"
    check(load_dataset("cifar100", binary / "cifar-100-binary", generic_share=0))


def test_options(binary: Path, python: Path) -> None:
    coarse = load_dataset("cifar100", binary, labels="coarse", generic_share=0)
    assert coarse.class_names == ("fish", "fruit and vegetables")
    assert images(coarse, "test").labels.tolist() == [1, 1, 0] * 2
    few = load_dataset("cifar100", binary, classes=["maple tree", "apple"], per_class=3, generic_share=0, size=16)
    assert images(few).images.shape == (6, 16, 16, 3)
    assert sorted(images(few).labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert images(few).images[:, 8, 8, 1:].tolist() == [[50, 7]] * 6
    for name in ("train.bin", "test.bin"):
        (binary / "cifar-100-binary" / name).unlink()
    (binary / "cifar-100-binary" / "fine_label_names.txt").unlink()
    (binary / "cifar-100-binary" / "coarse_label_names.txt").unlink()
    (binary / "cifar-100-binary").rmdir()
    same = load_dataset("cifar100", python, classes=["maple tree", "apple"], per_class=3, generic_share=0, size=16)
    assert same.notes["layout"] == "python"
    assert (images(same).images == images(few).images).all()  # the choice does not depend on the layout
    shared = load_dataset("cifar100", python)
    assert shared.public is not None
    assert (len(images(shared)), len(shared.public)) == (6, 6)


def test_a_pickle_of_python_3_is_read_too(python: Path) -> None:
    for protocol in (0, 2, 4):
        for part in ("train", "test"):
            (python / "cifar-100-python" / part).write_bytes(pickle.dumps(content(part), protocol))
        check(load_dataset("cifar100", python, generic_share=0))


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"data": Harm()}, r"asks for (posix|nt)\.system, allowed: dict, list, text"),
        ({"data": np.array([Harm()], dtype=object)}, "an array of 'O8', allowed: uint8"),
        ({"data": np.zeros((2, 2))}, "an array of 'f8', allowed: uint8"),
        ({"data": Path("x")}, r"asks for pathlib"),
        ([1, 2], "holds a list, expected a dictionary"),
    ],
)
def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(BadInput, match=says):
        read_plain(tmp_path / "train")
    assert not (tmp_path / "harmed").exists()


def test_a_pickle_cannot_change_what_it_is_given(tmp_path: Path) -> None:
    """BUILD sets attributes: on the stand-ins of that one file only."""

    def word(text: str) -> bytes:
        return b"X" + struct.pack("<I", len(text.encode())) + text.encode()

    path = tmp_path / "train"
    encode = b"c_codecs\nencode\n"
    use = b"}(" + word("data") + encode + word("\xe9") + b"\x85Ru."  # encode(text), the codec by default
    path.write_bytes(b"\x80\x02" + encode + b"N}(" + word("__defaults__") + b"Nu\x86b0}.")
    assert read_plain(path) == {}
    path.write_bytes(b"\x80\x02" + use)
    assert read_plain(path) == {"data": b"\xe9"}


def test_every_truncation_is_one_line(python: Path) -> None:
    path = python / "cifar-100-python" / "meta"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"meta: not a pickle of plain values: [^\n]+$"):
            read_plain(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fine_labels": [2, 0, 3] * 4}, r"train row 2: label 3, allowed: 0\.\.2"),
        ({"fine_labels": [2, -1, 0] * 4}, r"train row 1: label -1, allowed: 0\.\.2"),
        ({"fine_labels": [2, 0]}, r"12 pictures but fine_labels is 2"),
        ({"fine_labels": [0, "one"] * 6}, r"train row 1: label b'one', expected a whole number"),
        ({"data": np.zeros((12, 300), dtype=np.uint8)}, r"data is \(12, 300\), expected uint8 \(N, 3072\)"),
        ({"data": "nothing"}, "data is bytes, expected"),
    ],
)
def test_python_complaints(python: Path, changes: dict[str, Any], says: str) -> None:
    write(python / "cifar-100-python" / "train", content("train", **changes))
    with pytest.raises(BadInput, match=says):
        load_dataset("cifar100", python)


def test_missing_entries_and_files(python: Path) -> None:
    folder = python / "cifar-100-python"
    write(folder / "meta", {"fine_label_names": FINE})
    with pytest.raises(BadInput, match=r"meta: no entry 'coarse_label_names', it holds: fine_label_names"):
        load_dataset("cifar100", python, labels="coarse")
    with pytest.raises(BadInput, match=r"unknown kind of labels 'fin'. Did you mean 'fine'"):
        load_dataset("cifar100", python, labels="fin")
    (folder / "test").unlink()
    with pytest.raises(BadInput, match=r"test: there is no such file. Expected layout: cifar-100-binary"):
        load_dataset("cifar100", python)
    with pytest.raises(BadInput, match=r"unknown class 'apples'\. Did you mean 'apple'"):
        load_dataset("cifar100", python, classes=["apples"])
    (python / "empty").mkdir()
    with pytest.raises(BadInput, match="neither layout of CIFAR-100 found"):
        load_dataset("cifar100", python / "empty")


def test_binary_complaints(binary: Path) -> None:
    path = binary / "cifar-100-binary" / "train.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(BadInput, match=r"train\.bin: 36887 bytes, expected a multiple of 3074"):
        load_dataset("cifar100", binary)
    path.write_bytes(b"")
    with pytest.raises(BadInput, match=r"train\.bin: 0 bytes"):
        load_dataset("cifar100", binary)
    path.write_bytes(whole[: 3074 + 1] + b"\x63" + whole[3074 + 2 :])
    with pytest.raises(BadInput, match=r"train\.bin row 1: label 99, allowed: 0\.\.2"):
        load_dataset("cifar100", binary)
    (binary / "cifar-100-binary" / "fine_label_names.txt").write_text("\n")
    with pytest.raises(BadInput, match=r"fine_label_names\.txt: no class names, expected one a line"):
        load_dataset("cifar100", binary)


def test_the_real_set() -> None:
    root = next((SLICES / n for n in ("cifar100", "cifar-100") if (SLICES / n).is_dir()), None)
    if root is None:
        pytest.skip(f"real data slice not found: {SLICES / 'cifar100'} (set FEDLOOM_TEST_DATA)")
    dataset = load_dataset("cifar100", root, generic_share=0)
    assert dataset.classes == 100
    assert len(np.unique(images(dataset).labels)) == 100
