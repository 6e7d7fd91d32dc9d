"""Eq. 3."""

from __future__ import annotations

import math

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.confidence import confidence, entropy
from reference import labels as slow

GOLDEN = [
    ((0.7, 0.2, 0.1), 0.801819, 1.247165),
    ((0.1, 0.8, 0.1), 0.639032, 1.564867),
    ((0.34, 0.33, 0.33), 1.098513, 0.910322),
    ((0.6, 0.3, 0.1), 0.897946, 1.113653),
]


@pytest.mark.parametrize(("q", "nats", "weight"), GOLDEN)
def test_golden_entropy_and_weight(q: tuple[float, ...], nats: float, weight: float) -> None:
    h = entropy(torch.tensor(q).log())
    assert h.item() == pytest.approx(nats, abs=1e-6)
    assert confidence(h).item() == pytest.approx(weight, abs=2e-6)


def test_uniform_logits_have_entropy_log_c() -> None:
    for c in (1, 2, 102):
        assert entropy(torch.full((5, c), 3.0)).tolist() == pytest.approx([math.log(c)] * 5, abs=1e-6)


def test_one_hot_meets_the_floor() -> None:
    h = entropy(torch.tensor([[1e4, 0.0, -1e4], [0.0, 1e3, 0.0]]))
    assert h.tolist() == [0.0, 0.0]
    assert confidence(h).tolist() == pytest.approx([100.0, 100.0])
    assert confidence(h, floor=0.5).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4, 3e38])
def test_finite_at_any_scale_and_within_bounds(scale: float) -> None:
    torch.manual_seed(0)
    h = entropy(scale * (2 * torch.rand(50, 7) - 1))
    assert torch.isfinite(h).all()
    assert (h >= 0).all()
    assert (h <= math.log(7) + 1e-6).all()


def test_rows_with_a_logit_that_is_not_finite_are_nan_alone() -> None:
    z = torch.zeros(4, 3)
    z[0, 1], z[1, 2], z[2, 0] = math.nan, math.inf, -math.inf
    h = entropy(z)
    assert torch.isnan(h).tolist() == [True, True, True, False]
    assert confidence(h).tolist()[:3] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("mode", ["inv", "exp", "lin"])
def test_against_the_slow_reference(mode: str) -> None:
    torch.manual_seed(1)
    z = torch.randn(6, 40, 5, dtype=torch.float64) * torch.logspace(-2, 3, 40, dtype=torch.float64)[:, None]
    z[2, 3, 1] = math.nan
    h = entropy(z)
    w = confidence(h, mode, floor=0.02, classes=5)
    for k in range(6):
        for i in range(40):
            expected = slow.entropy(z[k, i].tolist())
            assert h[k, i].item() == pytest.approx(expected, abs=1e-10, nan_ok=True)
            assert w[k, i].item() == pytest.approx(slow.confidence(expected, mode, 0.02, 5), abs=1e-8)


@pytest.mark.parametrize("mode", ["inv", "exp", "lin"])
def test_less_entropy_never_weighs_less_and_no_weight_is_wild(mode: str) -> None:
    h = torch.tensor([-1.0, 0.0, 0.2, 1.0, 1.6, 1.7, math.inf])
    w = confidence(h, mode, classes=5)
    assert (w.diff() <= 0).all()
    assert torch.isfinite(w).all()
    assert (w >= 0).all()
    assert w[0] == w[1]  # nobody earns more by claiming a negative entropy


def test_one_class_is_never_unsure() -> None:
    assert confidence(torch.zeros(2), "lin", classes=1).tolist() == [1.0, 1.0]


def test_bad_options_are_named() -> None:
    h = torch.zeros(1)
    with pytest.raises(BadInput, match="Did you mean 'exp'"):
        confidence(h, "exq")
    with pytest.raises(BadInput, match="number of classes"):
        confidence(h, "lin")
    with pytest.raises(BadInput, match="floor is 0"):
        confidence(h, floor=0)
