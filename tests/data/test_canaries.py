"""Canaries among a client's samples."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.config import load_config
from fedloom.config.data import CanarySettings
from fedloom.data.canaries import plant
from fedloom.data.containers import ImageSet, TextSet
from fedloom.errors import BadInput
from fedloom.experiment.checks import check_canaries

C, N = 4, 30
PICTURES = ImageSet(
    np.arange(N, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8), np.arange(N) % C
)
TEXTS = TextSet(tuple(f"text number {i}" for i in range(N)), np.arange(N) % C)


def mark(samples):
    return [int(i[0, 0, 0]) for i in samples.images] if isinstance(samples, ImageSet) else list(samples.texts)


@pytest.mark.parametrize("held", [PICTURES, TEXTS])
def test_mislabelled_ones_are_own_samples_under_another_class(held):
    found = plant(held, CanarySettings(count=10), C, np.random.default_rng(0))
    m, inside = len(found.canaries), int(found.inside.sum())
    assert (m, len(found.samples)) == (10, N - 10 + inside)
    right = dict(zip(mark(held), held.labels))
    assert all(right[k] != c for k, c in zip(mark(found.canaries), found.canaries.labels))
    rest, planted = mark(found.samples)[: N - 10], mark(found.samples)[N - 10 :]
    assert planted == [k for k, there in zip(mark(found.canaries), found.inside) if there]
    assert not set(rest) & set(mark(found.canaries))
    assert all(right[k] == c for k, c in zip(rest, found.samples.labels))


@pytest.mark.parametrize("held", [PICTURES, TEXTS])
def test_random_ones_come_on_top(held):
    found = plant(held, CanarySettings(count=50, kind="random"), C, np.random.default_rng(0))
    assert len(found.canaries) == 50
    assert len(found.samples) == N + found.inside.sum()
    assert mark(found.samples)[:N] == mark(held)


def test_at_most_half_of_the_samples():
    assert len(plant(PICTURES, CanarySettings(count=100), C, np.random.default_rng(0)).canaries) == N // 2


def test_coins_are_fair_and_of_the_stream():
    toss = [
        plant(PICTURES, CanarySettings(count=200, kind="random"), C, np.random.default_rng(s)).inside for s in (0, 0)
    ]
    assert (toss[0] == toss[1]).all()
    assert 70 < toss[0].sum() < 130


def test_only_clients_of_pictures_or_texts_have_any():
    pairs = "clients.pair=[{arch: resnet+gru}]"
    with pytest.raises(BadInput, match=r"data\.canaries: there are none for clients\.pair; allowed: image, text"):
        check_canaries(load_config(overrides=("data.canaries.count=5", pairs)))
