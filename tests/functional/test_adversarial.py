"""FedAFD's adversarial losses and gradient reversal."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.adversarial import (
    discriminator_accuracy,
    discriminator_loss,
    encoder_loss,
    reversal_coefficient,
    reverse_gradient,
)
from reference import adversarial as slow

MODES = ("nonsat", "minimax")


@pytest.mark.parametrize("mode", MODES)
def test_golden_discriminator(mode: Any) -> None:
    """log(1 + e^-2) = 0.126928, log 2 = 0.693147; log(1 + e) = 1.313262, log(1 + 1/e) = 0.313262."""
    got = discriminator_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, -1.0]), mode)
    assert got.item() == pytest.approx(0.410038 + 0.813262, abs=2e-6)


@pytest.mark.parametrize(("mode", "expected"), [("nonsat", 0.313262), ("minimax", -1.313262)])
def test_golden_encoder(mode: Any, expected: float) -> None:
    assert encoder_loss(torch.tensor([1.0]), mode).item() == pytest.approx(expected, abs=2e-6)


def test_two_sigmoids_start_higher_and_have_a_floor() -> None:
    zero, much = torch.zeros(3), torch.full((3,), 1e4)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss(much, -much).item() == 0.0
    legacy = {"legacy_double_sigmoid": True}
    assert discriminator_loss(zero, zero, **legacy).item() == pytest.approx(1.448154, abs=2e-6)
    assert discriminator_loss(much, -much, **legacy).item() == pytest.approx(1.006409, abs=2e-6)
    assert discriminator_loss(-much, much, **legacy).item() == pytest.approx(2.006409, abs=2e-6)
    assert encoder_loss(much, **legacy).item() == pytest.approx(0.313262, abs=2e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("twice", [False, True])
def test_against_the_slow_reference(mode: Any, twice: bool) -> None:
    torch.manual_seed(0)
    g, z = 2 * torch.randn(7, dtype=torch.float64), 2 * torch.randn(5, dtype=torch.float64)
    expected = slow.discriminator(g.tolist(), z.tolist(), twice)
    assert discriminator_loss(g, z, mode, twice).item() == pytest.approx(expected, rel=1e-12)
    assert encoder_loss(z, mode, twice).item() == pytest.approx(slow.encoder(z.tolist(), mode, twice))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("twice", [False, True])
def test_gradients_against_finite_differences(mode: Any, twice: bool) -> None:
    torch.manual_seed(1)
    g = torch.randn(4, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: discriminator_loss(a, b, mode, twice), (g, z))
    assert torch.autograd.gradcheck(lambda b: encoder_loss(b, mode, twice), (z,))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_ten_thousand(mode: Any, dtype: torch.dtype) -> None:
    g = torch.tensor([1e4, -1e4], dtype=dtype, requires_grad=True)
    z = torch.tensor([1e4, -1e4], dtype=dtype, requires_grad=True)
    loss = discriminator_loss(g, z, mode)
    loss.backward()
    assert loss.item() == 1e4
    assert g.grad is not None
    assert z.grad is not None
    assert g.grad.tolist() == [0.0, -0.5]
    assert z.grad.tolist() == [0.5, 0.0]
    z.grad = None
    loss = encoder_loss(z, mode)
    loss.backward()
    assert loss.item() == (5e3 if mode == "nonsat" else -5e3)
    assert z.grad is not None
    assert z.grad.tolist() == ([0.0, -0.5] if mode == "nonsat" else [-0.5, 0.0])


def test_the_encoder_learns_where_it_loses_or_where_it_wins() -> None:
    """Both modes push local logits up; nonsat most on the rows that the discriminator sees through."""
    for mode, lost, won in (("nonsat", 0.9933, 0.0067), ("minimax", 0.0067, 0.9933)):
        z = torch.tensor([-5.0, 5.0], requires_grad=True)
        (2 * encoder_loss(z, mode)).backward()
        assert z.grad is not None
        assert (-z.grad).tolist() == pytest.approx([lost, won], abs=1e-4)


def test_neither_order_nor_number_of_rows_matters() -> None:
    torch.manual_seed(2)
    g, z = torch.randn(6, 1), torch.randn(9, 1)
    expected = discriminator_loss(g, z)
    torch.testing.assert_close(discriminator_loss(g.flip(0), z[torch.randperm(9)]), expected)
    torch.testing.assert_close(discriminator_loss(g.repeat(3, 1), z), expected)


def test_no_sample_no_loss() -> None:
    none = torch.zeros(0, requires_grad=True)
    (discriminator_loss(none, none) + encoder_loss(none)).backward()
    assert discriminator_loss(none, torch.zeros(2)).item() == pytest.approx(math.log(2))


def test_accuracy() -> None:
    up, down = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0, -3.0, -4.0])
    assert discriminator_accuracy(up, down) == 1.0
    assert discriminator_accuracy(down, up) == 0.0
    assert discriminator_accuracy(torch.zeros(5), torch.zeros(2)) == 0.5
    assert discriminator_accuracy(torch.tensor([1.0, -1.0]), down) == 0.75
    assert discriminator_accuracy(torch.full((2,), math.nan), torch.full((2,), math.nan)) == 0.0
    with pytest.raises(ValueError, match="0 global and 2 local"):
        discriminator_accuracy(torch.zeros(0), up)


# ----------------------------------------------------------------------------------------------- gradient reversal


@pytest.mark.parametrize("coefficient", [0.0, 0.3, 1.0])
def test_reversal_changes_the_gradient_alone(coefficient: float) -> None:
    torch.manual_seed(3)
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    y = reverse_gradient(x, coefficient)
    assert torch.equal(y, x)
    (y * w).sum().backward()
    torch.testing.assert_close(x.grad, -coefficient * w)


def test_reversal_is_minimax_in_one_pass() -> None:
    torch.manual_seed(4)
    z, v, g = torch.randn(5, 3), torch.randn(3), torch.randn(6)
    encoders, adversaries = [], []
    for one_pass in (True, False):
        mine, w = z.clone().requires_grad_(), v.clone().requires_grad_()
        if one_pass:
            discriminator_loss(g, reverse_gradient(mine, 0.7) @ w).backward()
        else:
            discriminator_loss(g, mine.detach() @ w).backward()
            (0.7 * encoder_loss(mine @ w.detach(), "minimax")).backward()
        encoders.append(mine.grad)
        adversaries.append(w.grad)
    torch.testing.assert_close(encoders[0], encoders[1])
    torch.testing.assert_close(adversaries[0], adversaries[1])


def test_schedule() -> None:
    assert reversal_coefficient(0.0) == 0.0
    assert reversal_coefficient(0.5) == pytest.approx(0.986614, abs=1e-6)
    assert reversal_coefficient(1.0) == pytest.approx(0.999909, abs=1e-6)
    steps = [reversal_coefficient(i / 50) for i in range(51)]
    assert steps == sorted(steps)
    assert steps == pytest.approx([slow.reversal(i / 50) for i in range(51)], abs=1e-12)


def test_bad_options_are_named() -> None:
    z: Any = torch.zeros(2)
    for call in (lambda: discriminator_loss(z, z, "grl"), lambda: encoder_loss(z, "nonsta")):
        with pytest.raises(BadInput, match="unknown adversary"):
            call()
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="reversal coefficient"):
            reverse_gradient(z, bad)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="progress"):
            reversal_coefficient(bad)
