"""Data sets by name."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloom.config import load_config
from fedloom.config.defaults import held
from fedloom.data.containers import FederatedDataset, ImageSet, PublicData
from fedloom.data.fingerprint import fingerprint
from fedloom.data.io.clips import ClipReading
from fedloom.data.options import UNSHARED, takes
from fedloom.data.registry import DATASETS, PAIR_SETS, Dataset, load_dataset, load_pairs
from fedloom.errors import BadInput
from fedloom.registry import DATASETS as REGISTRY
from fedloom.registry import register_dataset
from fedloom.tasks import ClientTask


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_is_true(name: str) -> None:
    info = DATASETS[name]
    parameters = inspect.signature(info.load).parameters
    assert info.name == name
    assert ("root" in parameters) == bool(info.layout) == (not info.embedded)
    assert bool(info.modalities) == (info.tasks == (ClientTask.MULTIMODAL_CLASSIFICATION,))
    assert "seed" in parameters
    pictures = info.tasks != ("text",) and info.name != "audio_visual_digits"  # MNIST's are 28 pixels
    assert ("size" in parameters) == pictures
    assert info.tasks
    assert info.summary
    assert info.source


@pytest.mark.parametrize("name", sorted(PAIR_SETS))
def test_every_set_of_pairs_is_true(name: str) -> None:
    info = PAIR_SETS[name]
    assert {"size", "seed", "parts", "captions_per_image", "on_bad"} <= set(info.options)
    assert all((info.summary, info.layout, info.source))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"name": "flickr3k"}, "unknown set of pairs 'flickr3k'. Did you mean 'flickr30k'"),
        (
            {"name": "coco", "root": "x", "restvall": 1},
            "'coco' has no option 'restvall'. Did you mean 'restval'",
        ),
        ({"name": "flickr8k"}, "set of pairs 'flickr8k' needs root, a folder that holds: Flicker8k_Dataset"),
    ],
)
def test_complaints_of_pairs(call: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_pairs(**call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"name": "flower102"}, "unknown data set 'flower102'. Did you mean 'flowers102'"),
        ({"name": "digits", "sise": 16}, "'digits' has no option 'sise'. Did you mean 'size'"),
        ({"name": "digits", "root": "somewhere"}, "embedded and reads no folder"),
        ({"name": "food101"}, "needs root, a folder that holds: images/<class>"),
    ],
)
def test_complaints(call: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_dataset(**call)  # type: ignore[arg-type]


def test_digits_by_name() -> None:
    assert load_dataset("digits", size=8).classes == DATASETS["digits"].classes == 10


def test_the_registry_is_light() -> None:
    heavy = "{'torch', 'PIL', 'scipy', 'pandas', 'pyarrow'}"
    code = f"import sys, fedloom.data.registry; print([m for m in sys.modules if m in {heavy}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


OWN = """
import numpy as np
from fedloom.data.containers import FederatedDataset, TextSet
from fedloom.config import load_config
from fedloom.config.defaults import held
from fedloom.data.fingerprint import fingerprint
from fedloom.data.registry import Dataset

def load(root, times: int = 1):
    texts = TextSet(("good", "bad") * times, np.array([0, 1] * times))
    return FederatedDataset("letters", ("good", "bad"), {"text": texts}, {"text": texts})

DATASET = Dataset("letters", "two texts", load, ("text",), 2, "a folder", samples={"text": (2, 2)})
OTHER = 3
"""


def test_a_data_set_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By reference, and by name once it is registered; what it does not take is refused as of the built-in ones."""
    (tmp_path / "letters_set.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(REGISTRY, "_registered", {})
    reference = "letters_set:DATASET"
    assert len(load_dataset(reference, "x", times="3").labelled("train", ClientTask.TEXT_CLASSIFICATION)) == 6
    assert load_config(values={"data": {"name": reference, "root": "x"}}).data.name == reference
    assert DATASETS[reference].samples_of({"generic_share": 0.5}) == {"text": (1, 2)}
    with pytest.raises(BadInput, match=r"'letters_set:DATASET' has no option 'time'. Did you mean 'times'"):
        load_dataset(reference, "x", time=3)
    with pytest.raises(BadInput, match="'letters_set:OTHER': is a int, expected a Dataset"):
        load_dataset("letters_set:OTHER", "x")
    register_dataset(DATASETS[reference])
    assert "letters" in DATASETS
    assert "letters" not in PAIR_SETS
    assert list(DATASETS)[-1] == "letters"
    assert load_config(values={"data": {"name": "letters", "root": "x"}}).data.name == reference
    with pytest.raises(BadInput, match=r"unknown data set 'new': one of its tasks 'txet'. Did you mean 'text'"):
        Dataset("new", "", str, ("txet",))  # type: ignore[arg-type]
    fingerprint(reference, str(tmp_path), {})
    assert held("letters", {}) == ("text",)


@takes(ClipReading, UNSHARED, size=48)
def clips(root: str, *, reading: ClipReading) -> ClipReading:
    return reading


def test_a_group_of_options_is_shown_and_taken_one_by_one() -> None:
    parameters = inspect.signature(clips).parameters
    assert {"root", "size", "seed", "frames", "fps", "rate", "noverlap"} <= set(parameters)
    assert not {"reading", "options", "sound", "generic_share"} & set(parameters)
    assert parameters["size"].default == 48
    read = clips("x", seed=3, seconds=1.5, frames=2)
    assert (read.options.size, read.options.seed, read.options.generic_share) == (48, 3, 0.0)
    assert (read.sound.seconds, read.frames) == (1.5, 2)
    assert clips("x", reading=read) is read
    with pytest.raises(TypeError):
        clips("x", generic_share=0.5)
    with pytest.raises(BadInput, match="frames=0"):
        clips("x", frames=0)


def test_a_reader_gives_as_many_classes_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_registered", {})
    register_dataset(replace(DATASETS["flora"], name="short", classes=7, load=lambda: load_dataset("flora")))
    with pytest.raises(BadInput, match=r"^short: its reader gives 10 classes, declared: 7$"):
        load_dataset("short")


def given(monkeypatch: pytest.MonkeyPatch, found: object, **declared: object) -> None:
    """A data set of that name whose reader returns `found`."""
    monkeypatch.setattr(REGISTRY, "_registered", {})
    register_dataset(Dataset("given", "", lambda: found, ("image",), **declared))  # type: ignore[arg-type]


def test_a_reader_that_returns_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, None)
    with pytest.raises(BadInput, match=r"^given: its reader returned None, expected a FederatedDataset$"):
        load_dataset("given")
    given(monkeypatch, {"train": 1}, captioned=True)
    with pytest.raises(BadInput, match=r"^given: its reader returned \{'train': 1\}, expected a Pairs$"):
        load_pairs("given")


def pictures(side: int, n: int = 3) -> ImageSet:
    return ImageSet(np.zeros((n, side, side, 3), np.uint8), np.arange(n) % 3)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"class_names": ("a", "a", "b")}, "class name 'a' occurs twice, expected a name of its own for each class"),
        ({"class_names": ("a", 7, "b")}, "class name 7 is a int, expected text"),
        ({"text_class_names": ("good", "good")}, "class name 'good' occurs twice"),
        ({"test": {"image": pictures(18)}}, "test image pictures of 18 x 18 pixels, train image of 12 x 12"),
        ({"reference": pictures(18)}, "reference pictures of 18 x 18 pixels, train image of 12 x 12"),
        (
            {"public": PublicData(np.zeros((1, 12, 18, 3), np.uint8), ("one",), np.zeros(1, np.int64))},
            "public pictures of 12 x 18 pixels, train image of 12 x 12: give one size",
        ),
    ],
)
def test_names_are_told_apart_and_pictures_of_one_size(parts: dict[str, object], says: str) -> None:
    whole = {"class_names": ("a", "b", "c"), "train": {"image": pictures(12)}, "test": {"image": pictures(18, n=0)}}
    FederatedDataset("given", **whole)  # type: ignore[arg-type]  # where there are no pictures their size is no matter
    with pytest.raises(BadInput, match=f"^given: {says}"):
        FederatedDataset("given", **{**whole, **parts})  # type: ignore[arg-type]
