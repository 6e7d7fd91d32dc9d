"""Averages that a few clients cannot move far."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.functional.robust import Rule, clip_to_median, combine, middle
from reference import robust as slow

RULES = get_args(Rule)
ROBUST = [rule for rule in RULES if rule != "mean"]


def points(*rows: list[float]) -> Tensor:
    """K clients about one sample: (K, 1, D)."""
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def drawn(k: int = 7, n: int = 5, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(k, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_numbers_by_hand() -> None:
    z = points([0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [100.0, -100.0])
    assert combine(z).tolist() == [[25.75, -23.5]]
    assert combine(z, "median").tolist() == [[1.5, 1.5]]
    assert combine(z, "trimmed", byzantine=0.25).tolist() == [[1.5, 1.5]]
    # f = 1: the K - f - 2 = 1 nearest of each; the far one is left out
    assert combine(z, "multi_krum", byzantine=0.25).tolist() == [[1.0, 2.0]]
    # The point of three that the other two lie around at 120 degrees or more; and the centre of a square.
    assert torch.allclose(
        combine(points([0, 0], [1, 0], [-1, 0.1]), "geometric_median")[0], torch.zeros(2).double(), atol=1e-6
    )
    square = points([0, 0], [2, 0], [0, 2], [2, 2])
    assert torch.allclose(combine(square, "geometric_median"), torch.ones(1, 2).double())


def test_weights_by_hand() -> None:
    z, w = points([0.0], [1.0], [2.0]), torch.tensor([[1.0], [1.0], [3.0]])
    assert combine(z, weights=w).tolist() == [[1.4]]
    assert combine(z, "median", weights=w).tolist() == [[2.0]]
    assert combine(z, "median", weights=torch.tensor([[1.0], [1.0], [2.0]])).tolist() == [[1.5]]
    assert combine(z, "geometric_median", weights=w)[0, 0] == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("rule", ROBUST)
def test_against_a_slow_version(rule: Rule) -> None:
    """With weights, and with clients that are absent from some samples."""
    z = drawn()
    g = torch.Generator().manual_seed(1)
    weights, present = torch.rand(7, 5, generator=g, dtype=torch.float64) + 0.1, torch.rand(7, 5, generator=g) < 0.8
    found = combine(z, rule, weights=weights, present=present, byzantine=0.3)
    for i in range(z.shape[1]):
        here = torch.where(present[:, i])[0].tolist()
        rows, w = [z[k, i].tolist() for k in here], [float(weights[k, i]) for k in here]
        got = found[i].tolist()
        if rule == "geometric_median":
            best = slow.spread(rows, w, got)
            for d in range(3):
                for step in (-1e-3, 1e-3):
                    assert slow.spread(rows, w, [x + step * (j == d) for j, x in enumerate(got)]) >= best - 1e-12
        else:
            want = slow.median(rows, w) if rule == "median" else getattr(slow, rule)(rows, w, 0.3)
            assert got == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_clients_does_not_matter(rule: Rule) -> None:
    z, order = drawn(), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    weights = torch.rand(7, 5, generator=torch.Generator().manual_seed(2)) + 0.1
    found = combine(z, rule, weights=weights)
    assert torch.allclose(combine(z[order], rule, weights=weights[order]), found, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_moved_and_stretched(rule: Rule) -> None:
    z, shift = drawn(), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    assert torch.allclose(combine(3 * z + shift, rule), 3 * combine(z, rule) + shift, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_where_all_agree_it_is_what_they_say(rule: Rule) -> None:
    z = drawn(1).expand(6, -1, -1)
    assert torch.allclose(combine(z, rule), z[0])


@pytest.mark.parametrize("rule", ["trimmed", "multi_krum"])
def test_nobody_hostile_is_the_mean(rule: Rule) -> None:
    """And of two clients, of whom none can be cut off, every rule's answer is the mean."""
    z, weights = drawn(), torch.rand(7, 5, generator=torch.Generator().manual_seed(3)) + 0.1
    assert torch.allclose(combine(z, rule, weights=weights, byzantine=0.0), combine(z, weights=weights))


@pytest.mark.parametrize("rule", RULES)
def test_two_clients(rule: Rule) -> None:
    assert torch.allclose(combine(drawn(2), rule), drawn(2).mean(0), atol=1e-6)


@pytest.mark.parametrize("size", [100.0, 1e6, 3e38])
@pytest.mark.parametrize("rule", ROBUST)
def test_breakdown(rule: Rule, size: float) -> None:
    """Two of eight, however far away, do not move it beyond the others; the mean goes where they please."""
    honest = drawn(6).float()
    far = torch.full((2, 5, 3), size)
    found = combine(torch.cat([honest, far]), rule, byzantine=0.25)
    assert found.dtype == torch.float32
    assert bool(((found >= honest.amin(0)) & (found <= honest.amax(0))).all())
    if rule == "multi_krum":
        assert torch.allclose(found, honest.mean(0), atol=1e-6)
    assert bool((combine(torch.cat([honest, far])) > 20).all())


def test_the_median_breaks_at_half() -> None:
    z = torch.cat([torch.zeros(4, 1, 1), torch.full((4, 1, 1), 1e6)])
    assert float(combine(z, "median")) == 5e5
    assert float(combine(z[:7], "median")) == 0


@pytest.mark.parametrize("rule", RULES)
def test_who_is_absent_or_not_finite_has_no_part(rule: Rule) -> None:
    z = drawn(4)
    poison = torch.stack([torch.full((5, 3), x, dtype=torch.float64) for x in (math.nan, math.inf, 1e9)])
    present = torch.tensor([True] * 6 + [False])[:, None].expand(7, 5)
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None].expand(7, 5)
    found = combine(torch.cat([z, poison]), rule, weights=weights, present=present)
    assert torch.allclose(found, combine(z, rule, weights=weights[:4]))


@pytest.mark.parametrize("rule", RULES)
def test_one_client_and_nobody(rule: Rule) -> None:
    present = torch.zeros(3, 5, dtype=torch.bool)
    present[2] = True
    assert torch.allclose(combine(drawn(3), rule, present=present), drawn(3)[2])
    assert not combine(drawn(3), rule, present=~torch.ones_like(present)).any()
    assert combine(drawn(0), rule).shape == (5, 3)


def test_lengths_are_bounded_by_the_round() -> None:
    z = points([3.0, 4.0], [0.0, 5.0], [0.0, 500.0])
    short = clip_to_median(z, 2.0)
    assert short[:, 0].tolist() == [[3.0, 4.0], [0.0, 5.0], [0.0, 10.0]]
    assert torch.equal(clip_to_median(z, 1000.0), z)
    # of steps from where all began
    start = torch.tensor([[0.0, 5.0]], dtype=torch.float64)
    moved = clip_to_median(points([0.0, 6.0], [1.0, 5.0], [0.0, 105.0]), 1.0, centre=start)
    assert moved[:, 0].tolist() == [[0.0, 6.0], [1.0, 5.0], [0.0, 6.0]]
    # who is absent, or not finite, has no part in it and is not touched
    bad = torch.cat([z, points([math.nan, 0.0], [0.0, 1e9])])
    here = torch.tensor([True, True, True, True, False])[:, None]
    bounded = clip_to_median(bad, 2.0, here)
    assert torch.equal(bounded[:3], short)
    assert bool(bounded[3].isnan().any())
    assert bounded[4].tolist() == [[0.0, 1e9]]


def test_the_middle() -> None:
    numbers = torch.tensor([[1.0, 1.0], [5.0, 2.0], [3.0, 9.0]])
    assert middle(numbers, torch.tensor([[True, True], [True, True], [True, False]])).tolist() == [3.0, 1.5]
    assert middle(numbers, torch.zeros(3, 2).bool()).tolist() == [0.0, 0.0]


def test_what_is_refused() -> None:
    z = drawn()
    with pytest.raises(BadInput, match="unknown aggregate 'krum'"):
        combine(z, "krum")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"byzantine is 0.5; the share of hostile clients lies in \[0, 0.5\)"):
        combine(z, "trimmed", byzantine=0.5)
    with pytest.raises(BadInput, match="weights of clients must be finite and not negative"):
        combine(z, weights=-torch.ones(7, 5))
    with pytest.raises(BadInput, match=r"the norm bound is 0 times the median; it must be above 0"):
        clip_to_median(z, 0)
    for wrong in ({"weights": torch.ones(7)}, {"present": torch.ones(5, 7).bool()}):
        with pytest.raises(ValueError, match=r"must be \(K, N\) of values \(7, 5, 3\)"):
            combine(z, **wrong)  # type: ignore[arg-type]
