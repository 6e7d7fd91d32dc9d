"""What FedMMKT's convergence analysis bounds (arXiv 2510.12254), measured. Diagnostics: nothing is trained by them.

The paper's formulas were not available in print; these are readings of their description.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fedloom.functional.fusion import mean_over


@torch.no_grad()
def alignment_error(representations: Tensor, image: Sequence[bool], present: Tensor) -> float | None:
    """Mean over samples of ||mean image representation - mean text representation||^2.

    Args:
        representations: (K, S, D), of the same S samples; of absent rows whatever they hold.
        image: K, whether a client is one of images; the others are of texts.
        present: bool (K, S).

    Returns:
        Over the samples that both modalities answered; None where there is none.
    """
    images = torch.tensor(image, dtype=torch.bool)
    both = present[images].any(0) & present[~images].any(0)
    if not both.any():
        return None
    z = representations.double().masked_fill(~present[..., None], 0.0)
    gap = mean_over(z[images], present[images]) - mean_over(z[~images], present[~images])  # (S, D)
    return float(gap[both].square().sum(-1).mean())


@torch.no_grad()
def client_drift(representations: Tensor, present: Tensor) -> float | None:
    """Mean over clients of the squared distance of a client's representations to the mean over clients.

    Args:
        representations: (K, S, D); of absent rows whatever they hold.
        present: bool (K, S).

    Returns:
        Of each client the mean over the samples that it and another answered; None where there is no such client.
    """
    shared = present & (present.sum(0) > 1)
    z = representations.double().masked_fill(~present[..., None], 0.0)
    far = (z - mean_over(z, present)).square().sum(-1)  # (K, S)
    each = [row[here].mean() for row, here in zip(far, shared, strict=True) if here.any()]
    return float(torch.stack(each).mean()) if each else None


def gradient_variance(norms: Sequence[float]) -> float | None:
    """Variance over mini-batches of the norm of their gradients, without Bessel's correction; None without any."""
    return float(torch.tensor(norms, dtype=torch.float64).var(correction=0)) if norms else None


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """The Euclidean norm of all gradients together; parameters without one count as zero."""
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in parameters if p.grad is not None))
