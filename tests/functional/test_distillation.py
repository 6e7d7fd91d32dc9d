"""Eq. 13's alignment term."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.distillation import align_loss, softened
from reference import distillation as slow


@pytest.mark.parametrize(
    ("g", "direction", "expected"),
    [
        ((3.0, 2.0, 1.0), "forward", 1.150421),
        ((2.0, 2.0, 2.0), "forward", 0.266217),
        ((2.0, 2.0, 2.0), "reverse", 0.308994),
        ((1.0, 2.0, 3.0), "forward", 0.0),
    ],
)
def test_golden_kl(g: tuple[float, ...], direction: Any, expected: float) -> None:
    loss = align_loss(torch.tensor([g]), torch.tensor([[1.0, 2.0, 3.0]]), direction=direction, normalise="none")
    assert loss.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("kind", ["kl", "mse", "cos"])
@pytest.mark.parametrize("normalise", ["layer", "l2", "none"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_against_the_slow_reference(kind: Any, normalise: Any, direction: Any) -> None:
    torch.manual_seed(0)
    g, target = torch.randn(5, 8), 3 * torch.randn(5, 8) + 1
    loss = align_loss(g, target, kind, direction, temperature=2.0, normalise=normalise)
    expected = slow.align(g.tolist(), target.tolist(), kind, direction, 2.0, normalise)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["kl", "mse", "cos"])
def test_aligned_representations_cost_nothing_and_pull_nowhere(kind: Any) -> None:
    torch.manual_seed(1)
    r = torch.randn(4, 16)
    g = r.clone().requires_grad_()
    loss = align_loss(g, r, kind)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert g.grad is not None
    assert g.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["kl", "mse", "cos"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_no_gradient_reaches_the_target(kind: Any, direction: Any) -> None:
    torch.manual_seed(2)
    g, r = torch.randn(4, 16, requires_grad=True), torch.randn(4, 16, requires_grad=True)
    align_loss(g, r, kind, direction).backward()
    assert r.grad is None
    assert g.grad is not None
    assert g.grad.abs().sum() > 0


def test_layer_norm_makes_the_term_matter_where_unit_length_does_not() -> None:
    torch.manual_seed(3)
    g, r = torch.randn(64, 768), torch.randn(64, 768)
    assert 0.5 < align_loss(g, r).item() < 2.0
    assert align_loss(g, r, normalise="l2").item() == pytest.approx(1.3e-3, rel=0.1)


def test_high_temperature_is_half_the_mean_squared_difference() -> None:
    """tau -> infinity: tau^2 KL -> |centred difference|^2 / (2 D)."""
    torch.manual_seed(4)
    g, r = torch.randn(3, 10, dtype=torch.float64), torch.randn(3, 10, dtype=torch.float64)
    d = g - r - (g - r).mean(1, keepdim=True)
    got = align_loss(g, r, temperature=1e4, normalise="none")
    assert got.item() == pytest.approx(d.square().sum(1).mean().item() / 20, rel=1e-3)


def test_no_sample_no_loss() -> None:
    g = torch.zeros(0, 4, requires_grad=True)
    align_loss(g, torch.zeros(0, 4)).backward()


def test_bad_options_are_named() -> None:
    z = torch.zeros(2, 4)
    with pytest.raises(BadInput, match="unknown alignment"):
        align_loss(z, z, "kll")
    with pytest.raises(BadInput, match="unknown direction"):
        align_loss(z, z, direction="back")
    with pytest.raises(BadInput, match="unknown normalisation"):
        align_loss(z, z, normalise="l1")
    with pytest.raises(BadInput, match="temperature is 0"):
        align_loss(z, z, temperature=0)
    with pytest.raises(ValueError, match=r"\(2, 4\) and targets \(1, 4\)"):
        align_loss(z, z[:1])


def test_softened_by_hand_against_the_slow_reference_and_in_the_limit() -> None:
    """Two classes, T = 2: the teacher says (3/4, 1/4), the student (1/2, 1/2). Far above all scores, T is gone."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert softened(student, teacher, 2.0).item() == pytest.approx(expected, abs=1e-6)
    torch.manual_seed(0)
    g, target = (torch.randn(5, 8, dtype=torch.float64) for _ in range(2))
    expected = slow.align(g.tolist(), target.tolist(), "kl", "forward", 3.0, "none")
    assert softened(g, target, 3.0).item() == pytest.approx(expected, rel=1e-9)
    hot = ((g - g.mean(1, True)) - (target - target.mean(1, True))).square().sum(1).mean() / 16  # MSE / 2C, Hinton
    assert softened(g, target, 1e4).item() == pytest.approx(hot.item(), rel=1e-3)
    with pytest.raises(BadInput, match="temperature is 0"):
        softened(g, target, 0.0)
