"""How far a client can be relied on, by its own samples: how sure its answers are, and what is like its data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURES = 2.0 ** torch.arange(-1, 3.5, 0.5)


def fitting_temperature(logits: Tensor, labels: Tensor) -> float:
    """Of TEMPERATURES that under which labels (N,) are most probable by logits (N, C).

    Guo et al., On calibration of modern neural networks, ICML 2017: there of held-out samples, of which a small silo
    has none to spare.
    """
    losses = [F.cross_entropy(logits / t, labels).item() for t in TEMPERATURES]
    return float(TEMPERATURES[losses.index(min(losses))])


def near_class_means(z: Tensor, own: Tensor, labels: Tensor, far: float) -> Tensor:
    """0.0 of the share `far` of z (M, D) that is farthest from any class mean of own (N, D), 1.0 of the others; (M,).

    All of unit length. How far its own are from these says nothing: a client has learned them. labels: (N,).
    """
    own, z = F.normalize(own, dim=1), F.normalize(z, dim=1)
    means = torch.stack([own[labels == c].mean(0) for c in torch.unique(labels)])
    distance = torch.cdist(z, means).amin(1)
    return (distance <= distance.quantile(1 - far)).float()
