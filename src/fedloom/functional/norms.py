"""The two normalisations that the equations share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(z: Tensor) -> Tensor:
    """z / max(|z|, 1e-8) along the last axis, (..., D): unit length; a zero vector stays zero."""
    length: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return z / length.clamp(min=1e-8)


def layer_norm(z: Tensor, eps: float = 1e-8) -> Tensor:
    """Layer normalisation along the last axis without weights, (..., D).

    `eps` is far below the usual 1e-5: a unit vector's components have variance 1/D, about 1e-3, where 1e-5 would show.
    """
    return F.layer_norm(z, z.shape[-1:], eps=eps)
