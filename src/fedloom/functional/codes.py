"""Answers and representations in few bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVELS = 255  # of a share in 8 bits
REACH = 3.0  # standard deviations of a projected unit vector's component that 8 bits span


def to_top(probabilities: Tensor, k: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """The k largest of each row (S, C): classes (S, k) and their shares (S, k) in 1/255; a row that is not finite is
    all zeros. Shares are rounded down, so that they never add up to more than 1."""
    finite = torch.isfinite(probabilities).all(1)
    top = torch.where(finite[:, None], probabilities, 0.0).topk(min(k, probabilities.shape[1]), dim=1)
    shares = (top.values * LEVELS + 1e-4).floor().clamp(0, LEVELS)
    shares[:, 0] = torch.where(finite, shares[:, 0].clamp(min=1), 0.0)  # an answer is never all zeros
    return top.indices.numpy().astype(np.uint16), shares.numpy().astype(np.uint8)


def from_top(classes: NDArray[Any], shares: NDArray[np.uint8], count: int) -> Tensor:
    """Probabilities (S, C) of C = `count` classes: what `to_top` left is spread evenly over the others; a row of zeros
    where it is all zeros, or names a class twice or beyond C."""
    index, share = torch.from_numpy(classes.astype(np.int64)), torch.from_numpy(shares.astype(np.float64)) / LEVELS
    ordered = index.sort(1).values
    wrong = (index >= count).any(1) | (ordered[:, 1:] == ordered[:, :-1]).any(1) | (share.sum(1) > 1 + 1e-9)
    there = ~wrong & (share > 0).any(1)
    index = torch.where(there[:, None], index, torch.arange(index.shape[1]) % count)
    rest, others = (1 - share.sum(1, keepdim=True)).clamp(min=0), count - index.shape[1]
    rows = (rest / max(others, 1)).expand(-1, count).clone()
    rows.scatter_(1, index, share + (rest / index.shape[1] if others == 0 else 0.0))
    return rows * there[:, None]


def to_codes(z: Tensor, width: int, seed: int) -> NDArray[np.int8]:
    """Rows (S, D) as directions, projected on `width` random ones that `seed` says, 8 bits each: (S, width).

    Cosines of rows are kept to about 1 / sqrt(width) (Johnson and Lindenstrauss 1984).
    """
    rows = torch.nn.functional.normalize(torch.nan_to_num(z.double()), dim=1)
    projected = rows @ _directions(z.shape[1], width, seed)
    scale = 127 / (REACH / z.shape[1] ** 0.5)
    found: NDArray[np.int8] = (projected * scale).round().clamp(-127, 127).numpy().astype(np.int8)
    return found


def _directions(inputs: int, width: int, seed: int) -> Tensor:
    """(D, width), orthonormal."""
    draws = torch.Generator().manual_seed(seed)
    q: Tensor = torch.linalg.qr(torch.randn(inputs, min(width, inputs), generator=draws, dtype=torch.float64)).Q
    return q
