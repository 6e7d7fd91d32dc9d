"""Stochastic omission of representations from the generator's condition (FedMMKT, eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor

from fedloom.errors import BadInput


def omit(n: int, p: float, generator: torch.Generator) -> Tensor:
    """b ~ Bernoulli(p) for n samples: true where the representation is left out and text stands alone.

    p = 1 omits always (text-only tuning), p = 0 never; either way n numbers are drawn, so streams stay in step.

    Returns:
        bool (n,), on the generator's device.

    Raises:
        BadInput: p outside [0, 1].
    """
    if not 0.0 <= p <= 1.0:
        raise BadInput(f"the omission probability is {p}; it lies in [0, 1]")
    return torch.rand(n, generator=generator, device=generator.device) < p
