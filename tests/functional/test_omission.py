"""Eq. 12."""

from __future__ import annotations

import math

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.omission import omit


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_always_and_never() -> None:
    assert omit(10_000, 1.0, draws()).all()
    assert not omit(10_000, 0.0, draws()).any()


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5])
def test_rate_within_four_standard_deviations(p: float) -> None:
    n = 10_000
    assert abs(int(omit(n, p, draws(1)).sum()) - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_streams_stay_in_step_whatever_p() -> None:
    left = []
    for p in (0.0, 0.3, 1.0):
        g = draws()
        omit(7, p, g)
        left.append(torch.rand(1, generator=g).item())
    assert len(set(left)) == 1
    assert torch.equal(omit(50, 0.3, draws(2)), omit(50, 0.3, draws(2)))
    assert omit(0, 0.3, draws()).shape == (0,)


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_outside_its_range(p: float) -> None:
    with pytest.raises(BadInput, match="omission probability"):
        omit(1, p, draws())
