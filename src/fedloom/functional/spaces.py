"""Representation spaces of models that never met, turned onto one another (orthogonal Procrustes, Schoenemann 1966)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def common_space(representations: Tensor, present: Tensor, steps: int = 5) -> Tensor:
    """An orthogonal map for each client into a space that all share: generalised Procrustes analysis (Gower 1975).

    Each client's centred representations are turned onto the mean of all turned ones, `steps` times, beginning with
    the first client's. Lengths and angles within a client's space stay as they are.

    Args:
        representations: (K, N, D), of the same N samples; of absent rows whatever they hold.
        present: bool (K, N).

    Returns:
        (K, D, D), Q_k: z_k @ Q_k lies in the common space. The identity for a client that is nowhere present.
    """
    k, _, d = representations.shape
    here = present[..., None]
    z = representations.double().masked_fill(~here, 0.0)
    z = (z - z.sum(1, keepdim=True) / present.sum(1).clamp(min=1)[:, None, None]).masked_fill(~here, 0.0)
    maps = torch.eye(d, dtype=torch.float64).repeat(k, 1, 1)
    there = [i for i in range(k) if bool(present[i].any())]
    for step in range(steps if len(there) > 1 else 0):
        turned = z @ maps
        among = there[:1] if step == 0 else there
        mean = turned[among].sum(0) / present[among].sum(0).clamp(min=1)[:, None]  # (N, D)
        for i in there:
            u, _, v = torch.linalg.svd(z[i].T @ mean)  # argmin ||z_i Q - mean|| over orthogonal Q is U V^T
            maps[i] = u @ v
    return maps.to(representations.dtype)
