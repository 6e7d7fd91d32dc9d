"""Recalls: golden numbers by hand, the slow reference, and what must not matter."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from fedloom.errors import BadInput
from fedloom.metrics.retrieval import FOLD_1K, TERMS, Recalls, recalls
from reference import retrieval as slow


def shares(found: Recalls) -> dict[str, float]:
    return {term: getattr(found, term) for term in TERMS}


def noisy(n: int, seed: int = 0, noise: float = 1.0, D: int = 6) -> tuple[Any, Any, Any]:
    """N pictures with 1 to 4 captions each, which are the picture's representation and noise."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n), rng.integers(1, 5, n))
    x = rng.normal(size=(n, D))
    return x, x[owner] + noise * rng.normal(size=(len(owner), D)), owner


def degrees(*angles: float) -> list[list[float]]:
    return [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]


def test_golden_numbers() -> None:
    """Three pictures at 0, 90 and 200 degrees; captions by picture: 10, 80 | 60 | 190, 350, 100.

    i2t: picture 0: 10 is its own and 350 as near: a tie, lost (rank 1). Picture 1: 80 and 100 are nearer than 60
    (rank 2). Picture 2: 190 is nearest (rank 0). So R@1 = 1/3 and R@5 = 1.
    t2i: 10 -> 0 right; 80 -> 1, wrong; 60 -> 1 right; 190 -> 2 right; 350 -> 0, then 1 (100 away) before 2 (150 away),
    wrong; 100 -> 1, then 0 and 2 both at 100, wrong. So R@1 = 3/6.
    """
    found = recalls(degrees(0, 90, 200), degrees(10, 80, 60, 190, 350, 100), [0, 0, 1, 2, 2, 2])
    want = {**dict.fromkeys(TERMS, 1.0), "i2t_r1": 1 / 3, "t2i_r1": 0.5, "images": 3, "folds": 1}
    assert asdict(found) == pytest.approx(want)
    assert found.total() == pytest.approx(1 / 3 + 0.5)
    assert found.total(TERMS) == pytest.approx(1 / 3 + 0.5 + 4)
    assert found.total(["t2i_r1"]) == 0.5
    with pytest.raises(BadInput, match=r"unknown recall 't2i_r2'\. Did you mean 't2i_r"):
        found.total(["t2i_r2"])
    with pytest.raises(BadInput, match="'i2t_r1' is named twice"):
        found.total(["i2t_r1", "i2t_r1"])


def test_golden_ranks_of_five_and_ten() -> None:
    """Twelve pictures 10 degrees apart; the caption of picture n lies 36 degrees on, beside picture n + 4.

    Nearer to it than its own picture are the pictures n + 1 to n + 7, as far as there are: rank min(7, 11 - n). Nearer
    to picture n than its own caption are those of n - 1 to n - 7, as far as there are: rank min(7, n).
    """
    x = degrees(*range(0, 120, 10))
    t = degrees(*(10 * n + 36 for n in range(12)))
    found = recalls(x, t, np.arange(12))
    assert [found.t2i_r1, found.t2i_r5, found.t2i_r10] == pytest.approx([1 / 12, 5 / 12, 1.0])
    assert [found.i2t_r1, found.i2t_r5, found.i2t_r10] == pytest.approx([1 / 12, 5 / 12, 1.0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fold", [None, 7, 10])
def test_against_the_slow_reference(seed: int, fold: int | None) -> None:
    x, t, owner = noisy(30, seed)
    x[3], t[5] = 0.0, 0.0  # no direction at all: ties with everything
    x[8] = x[7]
    t[owner == 2] = t[0]
    want = slow.recalls(x.tolist(), t.tolist(), owner.tolist(), fold)
    found = recalls(x, t, owner, fold=fold, tile=1 + 5 * seed)
    assert shares(found) == pytest.approx(want)
    assert (found.images, found.folds) == {None: (30, 1), 7: (28, 4), 10: (30, 3)}[fold]


def test_perfect_and_chance() -> None:
    x, t, owner = noisy(200, noise=0.0)
    assert shares(recalls(x, 3.7 * t, owner)) == dict.fromkeys(TERMS, 1.0)
    rng = np.random.default_rng(1)
    N, each = 400, 5
    owner = np.repeat(np.arange(N), each)
    found = recalls(rng.normal(size=(N, 32)), rng.normal(size=(N * each, 32)), owner)
    for k in (1, 5, 10):
        chance = k / N
        spread = 4 * math.sqrt(chance / N)  # captions of one picture are drawn apart, pictures are few
        assert getattr(found, f"t2i_r{k}") == pytest.approx(chance, abs=spread)
        assert getattr(found, f"i2t_r{k}") == pytest.approx(1 - (1 - chance / each) ** each, abs=spread)


def test_representations_all_alike_recall_nothing() -> None:
    """Whatever the rounding in a tile: a collapsed encoder must not look like a good one."""
    owner = np.repeat(np.arange(50), 5)
    one = np.random.default_rng(2).normal(size=37)
    lengths = np.random.default_rng(3).uniform(0.1, 9, (300, 1))
    for tile in (1, 3, 64, 256):
        found = recalls(one * lengths[:50], one * lengths[50:], owner, tile=tile)
        assert shares(found) == dict.fromkeys(TERMS, 0.0)
    assert shares(recalls(np.zeros((50, 3)), np.ones((250, 3)), owner)) == dict.fromkeys(TERMS, 0.0)


def test_order_tile_length_and_type_do_not_matter() -> None:
    x, t, owner = noisy(60)
    want = recalls(x, t, owner)
    assert 0 < want.i2t_r1 < 1
    rng = np.random.default_rng(4)
    images, captions = rng.permutation(60), rng.permutation(len(t))
    place = np.argsort(images)  # where each picture went
    assert recalls(x[images], t[captions], place[owner[captions]]) == want
    for tile in (1, 7, 10**6):
        assert recalls(x, t, owner, tile=tile) == want
    assert recalls(x * rng.uniform(1e-3, 1e3, (60, 1)), t * 5, owner) == want
    assert recalls(x * 1e-200, t * 1e200, owner) == want  # squares would vanish and overflow
    assert recalls(torch.from_numpy(x), torch.from_numpy(t), torch.from_numpy(owner)) == want


def test_folds_are_consecutive_and_score_alone() -> None:
    x, t, owner = noisy(40)
    whole = recalls(x, t, owner, fold=10)
    parts = [
        recalls(x[n : n + 10], t[owner // 10 == n // 10], owner[owner // 10 == n // 10] - n) for n in (0, 10, 20, 30)
    ]
    for term in TERMS:
        assert getattr(whole, term) == pytest.approx(np.mean([getattr(p, term) for p in parts]))
    assert recalls(x, t, owner, fold=40) == recalls(x, t, owner)
    assert whole.total() > recalls(x, t, owner).total()  # fewer to confuse with
    left = recalls(x, t, owner, fold=15)
    assert (left.images, left.folds) == (30, 2)
    assert left == recalls(x[:30], t[owner < 30], owner[owner < 30], fold=15)
    assert FOLD_1K == 1000


def test_a_picture_without_captions_asks_nothing_but_is_found() -> None:
    found = recalls(degrees(0, 90, 12), degrees(10, 90), [0, 1])
    assert shares(found) == {**dict.fromkeys(TERMS, 1.0), "t2i_r1": 0.5}


def test_memory_is_that_of_a_tile() -> None:
    rng = np.random.default_rng(5)
    N, M = 1000, 8000
    x, t, owner = rng.normal(size=(N, 8)), rng.normal(size=(M, 8)), np.arange(M) % N
    tracemalloc.start()
    recalls(x, t, owner, tile=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # N x M scores are 64 MB


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": np.zeros(4)}, r"image representations \(4,\) must be \(N, D\)"),
        ({"captions": np.zeros((0, 3))}, r"caption representations \(0, 3\) must be"),
        ({"captions": np.ones((5, 4))}, r"\(4, 3\) and caption representations \(5, 4\) differ in width"),
        ({"owner": [0, 1, 2]}, r"owner is int64 \(3,\), expected integers \(5,\)"),
        ({"owner": [0.0, 1, 2, 3, 3]}, r"owner is float64"),
        ({"owner": [0, 1, 2, 3, 4]}, r"owner names image 4, allowed: 0\.\.3"),
        ({"owner": [0, 1, 2, 3, -1]}, r"owner names image -1"),
        ({"fold": 5}, "fold=5, allowed: 1 to the number of images, 4"),
        ({"fold": 0}, "fold=0, allowed"),
        ({"tile": 0}, "tile=0, allowed"),
        ({"owner": [0, 0, 0, 1, 1], "fold": 2}, r"images 2\.\.3 have no captions"),
    ],
)
def test_complaints(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"images": np.ones((4, 3)), "captions": np.ones((5, 3)), "owner": [0, 1, 2, 3, 3]}
    with pytest.raises(BadInput, match=says):
        recalls(**{**good, **change})


def test_rows_that_are_not_finite_are_named() -> None:
    x, t = np.ones((9, 3)), np.ones((9, 3))
    t[[2, 7], 1] = math.nan
    with pytest.raises(BadInput, match=r"caption representations: 2 of 9 rows are not finite: 2, 7$"):
        recalls(x, t, np.arange(9))
    x[:7, 0] = math.inf
    with pytest.raises(BadInput, match=r"image representations: 7 of 9 rows are not finite: 0, 1, 2, 3, 4, \.\.\.$"):
        recalls(x, t, np.arange(9))
