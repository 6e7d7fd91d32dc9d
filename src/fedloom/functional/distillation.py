"""Aligning a client's representation with the fused one (FedMMKT, eq. 13); distillation at a temperature."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import BadInput, unknown
from fedloom.functional.norms import layer_norm, unit

Align = Literal["kl", "mse", "cos"]
Direction = Literal["forward", "reverse"]
Normalise = Literal["layer", "l2", "none"]


def align_loss(
    g: Tensor,
    target: Tensor,
    kind: Align = "kl",
    direction: Direction = "forward",
    temperature: float = 1.0,
    normalise: Normalise = "layer",
) -> Tensor:
    """How far representations are from their targets: the second term of eq. 13 (FedMMKT).

    `kl` is KL(softmax(R / tau) || softmax(g / tau)) tau^2 over the D components, in nats. On unit vectors both sides
    are near uniform and the term vanishes beside a cross-entropy; on layer-normalised ones it is of order 1.

    Args:
        g: (B, D), the client's representations, with gradient.
        target: (B, D), the fused representations R; no gradient reaches them.
        kind: `kl`, `mse` (mean over components) or `cos` (1 - cosine).
        direction: `forward` puts the teacher (target) first, `reverse` the student; for `kl`.
        temperature: tau_r, for `kl`.
        normalise: what both sides go through first: layer norm, unit length, or nothing.

    Returns:
        Scalar, mean over the batch; 0 for an empty one.

    Raises:
        ValueError: shapes disagree.
        BadInput: an unknown option, or a temperature that is not positive.
    """
    if g.shape != target.shape or g.ndim != 2:
        raise ValueError(f"representations {tuple(g.shape)} and targets {tuple(target.shape)} must both be (B, D)")
    if not temperature > 0:
        raise BadInput(f"the alignment temperature is {temperature}; it must be above 0")
    if not len(g):
        return g.sum()
    student, teacher = _normalised(g, normalise), _normalised(target.detach(), normalise)
    if kind == "kl":
        return _kl(student / temperature, teacher / temperature, direction) * temperature**2
    if kind == "mse":
        return F.mse_loss(student, teacher)
    if kind == "cos":
        return (1.0 - (unit(student) * unit(teacher)).sum(-1)).mean()
    raise unknown("alignment", kind, ("kl", "mse", "cos"))


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of each row, in nats: (B, C) twice -> (B,). Gradient reaches both."""
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over rows, in nats (Hinton et al., arXiv 1503.02531).

    T^2 keeps the gradient's size when T changes. FedMEKT's and FedDAT's code have it so.

    Args:
        student: (B, C), with gradient.
        teacher: (B, C), no gradient reaches it.
        temperature: T.

    Raises:
        BadInput: a temperature that is not positive.
    """
    if not temperature > 0:
        raise BadInput(f"the distillation temperature is {temperature}; it must be above 0")
    return temperature**2 * divergence(student / temperature, teacher.detach() / temperature).mean()


def _normalised(z: Tensor, normalise: Normalise) -> Tensor:
    if normalise == "layer":
        return layer_norm(z)
    if normalise == "l2":
        return unit(z)
    if normalise == "none":
        return z
    raise unknown("normalisation", normalise, ("layer", "l2", "none"))


def _kl(student: Tensor, teacher: Tensor, direction: Direction) -> Tensor:
    """Mean over rows of KL(softmax(teacher) || softmax(student)), or the other way round."""
    if direction not in ("forward", "reverse"):
        raise unknown("direction", direction, ("forward", "reverse"))
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    if direction == "reverse":
        log_q, log_p = log_p, log_q
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
