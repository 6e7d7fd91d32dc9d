"""The discriminator, and the two steps of FedAFD's adversarial alignment around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.functional.adversarial import (
    discriminator_accuracy,
    discriminator_loss,
    encoder_loss,
    reversal_coefficient,
    reverse_gradient,
)
from fedloom.models.discriminator import Discriminator


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_size() -> None:
    assert sum(p.numel() for p in Discriminator().parameters()) == 41_217
    assert sum(p.numel() for p in Discriminator(10, (4,)).parameters()) == 10 * 4 + 4 + 4 + 1
    assert Discriminator()(torch.randn(3, 256)).shape == (3,)
    assert Discriminator(8)(torch.randn(2, 5, 8)).shape == (2, 5)
    assert Discriminator(8)(torch.zeros(0, 8)).shape == (0,)


def test_golden_logits() -> None:
    """One unit between: 3 z1 - z2, slope 0.2 below 0, times 2, less 1. No sigmoid at the end."""
    d = Discriminator(2, (1,))
    values = [[[3.0, -1.0]], [0.0], [[2.0]], [-1.0]]
    for p, value in zip(d.parameters(), values, strict=True):
        p.data = torch.tensor(value)
    got = d(torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    assert got.tolist() == pytest.approx([3.0, -1.4, -1.0])


def test_held_gives_the_same_logits_and_teaches_only_what_is_judged() -> None:
    torch.manual_seed(0)
    d, z = Discriminator(6), torch.randn(4, 6, requires_grad=True)
    plain = d(z)
    (through,) = torch.autograd.grad(plain.sum(), z, retain_graph=True)
    held = d.held(z)
    assert torch.equal(held, plain)
    held.sum().backward()
    torch.testing.assert_close(z.grad, through)
    assert all(p.grad is None for p in d.parameters())


@pytest.mark.parametrize("mode", ["nonsat", "minimax"])
def test_each_step_leaves_the_other_side_bitwise_as_it_was(mode: Any) -> None:
    torch.manual_seed(1)
    encoder, d = nn.Linear(5, 4), Discriminator(4)
    own, theirs = torch.optim.Adam(encoder.parameters()), torch.optim.Adam(d.parameters())
    inputs, g = torch.randn(8, 5), torch.randn(8, 4)

    encoder_before, d_before = bits(encoder), bits(d)
    discriminator_loss(d(g), d(encoder(inputs).detach()), mode).backward()
    theirs.step()
    assert same(encoder, encoder_before)
    assert all(p.grad is None for p in encoder.parameters())
    assert not same(d, d_before)

    d_before = bits(d)
    theirs.zero_grad()
    encoder_loss(d.held(encoder(inputs)), mode).backward()
    own.step()
    assert same(d, d_before)
    assert all(p.grad is None for p in d.parameters())
    assert not same(encoder, encoder_before)


@pytest.mark.parametrize(("apart", "low", "high"), [(0.0, 0.45, 0.55), (10.0, 0.999, 1.0)])
def test_a_trained_discriminator_tells_apart_what_differs_and_guesses_where_nothing_does(
    apart: float, low: float, high: float
) -> None:
    torch.manual_seed(2)
    d = Discriminator(4)
    optimizer = torch.optim.Adam(d.parameters(), 1e-3)
    for _ in range(150):
        loss = discriminator_loss(d(torch.randn(64, 4) + apart / 2), d(torch.randn(64, 4)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        got = discriminator_accuracy(d(torch.randn(2000, 4) + apart / 2), d(torch.randn(2000, 4)))
    assert low <= got <= high


@pytest.mark.parametrize("way", ["nonsat", "minimax", "grl"])
def test_two_gaussians_two_sigma_apart_meet(way: Any) -> None:
    """The encoder is linear and begins as the identity; more than 80 % of the gap between the means goes."""
    torch.manual_seed(3)
    steps, mean = 700, torch.tensor([2.0, 0.0])
    encoder, d = nn.Linear(2, 2), Discriminator(2, (32, 16))
    encoder.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    theirs = torch.optim.Adam(d.parameters(), 2e-3, (0.5, 0.999))
    own = torch.optim.Adam(encoder.parameters(), 5e-3, (0.5, 0.999))

    def step(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    for t in range(steps):
        g, z = torch.randn(128, 2) + mean, encoder(torch.randn(128, 2))
        if way == "grl":
            step(discriminator_loss(d(g), d(reverse_gradient(z, reversal_coefficient(t / steps)))), own, theirs)
        else:
            step(discriminator_loss(d(g), d(z.detach()), way), theirs)
            step(encoder_loss(d.held(z), way), own)
    gap = (encoder(torch.zeros(2)) - mean).norm().item()
    assert gap < 0.2 * 2


def test_bad_widths_are_named() -> None:
    with pytest.raises(BadInput, match=r"widths \(0, 128, 64\)"):
        Discriminator(0)
