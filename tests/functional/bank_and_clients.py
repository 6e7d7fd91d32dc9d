"""Representations of clients that resemble those of a bank."""

from __future__ import annotations

import torch
from torch import Tensor

from fedloom.functional.norms import unit

EYE = torch.eye(2)
GOLDEN = torch.stack([EYE, EYE.flip(0)])  # one client is right, one has them crossed


def clients(k: int = 4, p: int = 30, d: int = 6) -> tuple[Tensor, Tensor]:
    """Unit rows (K, P, D) that resemble the bank (P, D), each client less than the one before."""
    torch.manual_seed(k + p)
    bank = unit(torch.randn(p, d, dtype=torch.float64))
    noise = torch.arange(1, k + 1)[:, None, None] * torch.randn(k, p, d, dtype=torch.float64) / 2
    return unit(bank + noise), bank
