"""Data sets by name."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from fedloom.data.registry import DATASETS, PAIR_SETS, load_dataset, load_pairs, options_of
from fedloom.errors import BadInput


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_is_true(name: str) -> None:
    info = DATASETS[name]
    module, _, function = info.loader.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    assert ("root" in parameters) == bool(info.layout)
    assert "seed" in parameters
    pictures = info.modalities != ("text",) and info.name != "audio_visual_digits"  # MNIST's are 28 pixels
    assert ("size" in parameters) == pictures
    assert info.modalities
    assert info.summary
    assert info.source


@pytest.mark.parametrize("name", sorted(PAIR_SETS))
def test_every_set_of_pairs_is_true(name: str) -> None:
    info = PAIR_SETS[name]
    assert {"size", "seed", "parts", "captions_per_image", "on_bad"} <= set(options_of(info))
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
