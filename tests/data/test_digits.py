"""The embedded digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedloom.data.datasets import digits
from fedloom.data.datasets.digits import NAMES, SIBLING, load
from fedloom.errors import BadInput


def test_counts_and_shapes() -> None:
    dataset, truth = load(size=16), load(size=16, confusion=0.0, confusion_spread=0.0).public
    assert dataset.class_names == NAMES
    assert truth is not None
    assert list(dataset.train) == list(dataset.test) == ["image"]
    assert (len(dataset.train["image"]), len(dataset.test["image"])) == (797, 500)
    assert np.bincount(dataset.test["image"].labels).tolist() == [50] * 10
    assert dataset.public is not None
    assert dataset.public.images.shape == (500, 16, 16, 3)
    wrong = dataset.public.names != truth.names
    assert wrong.mean() == pytest.approx(0.4)
    assert (dataset.public.names[wrong] == SIBLING[truth.names[wrong]]).all()
    assert sorted({round(float(wrong[truth.names == c].mean()), 2) for c in range(10)}) == [0, 0.2, 0.4, 0.6, 0.8]
    assert (SIBLING[SIBLING] == np.arange(10)).all()


def test_parts_share_no_picture() -> None:
    dataset = load(size=8)
    assert dataset.public is not None
    parts = [dataset.train["image"].images, dataset.test["image"].images, dataset.public.images]  # type: ignore[union-attr]
    seen = [{p.tobytes() for p in part} for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 1797


def test_captions_describe_and_do_not_name() -> None:
    dataset = load(size=8)
    assert dataset.public is not None
    captions = dataset.public.captions
    assert len(set(captions)) > 15
    assert not any(name in caption.split() for caption in captions for name in NAMES)
    ink = dataset.public.images[..., 0].astype(float)
    thick = [i for i, c in enumerate(captions) if "thick" in c]
    thin = [i for i, c in enumerate(captions) if "thin" in c]
    assert ink[thick].mean(axis=(1, 2)).min() > ink[thin].mean(axis=(1, 2)).max()


def test_seed_and_limits() -> None:
    a, b, c = (load(size=8, seed=s).test["image"].images for s in (0, 0, 1))  # type: ignore[union-attr]
    assert (a == b).all()
    assert (a != c).any()
    for kwargs in ({"test": 15}, {"test": 1000, "generic": 740}, {"size": 4}, {"confusion": 2.0}):
        with pytest.raises(BadInput):
            load(**kwargs)  # type: ignore[arg-type]


def test_the_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    with np.load(Path(digits.__file__).with_suffix(".npz")) as ours:
        assert np.array_equal(ours["ink"], theirs.images)
        assert np.array_equal(ours["labels"], theirs.target)
