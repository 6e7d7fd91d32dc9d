"""Who is dominant, how sharp its lesson is, and the lesson: FedCMI's losses (arXiv 2401.00894).

Shapes: B samples, C classes, two kinds of data in the order of the streams.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

K = TypeVar("K")
FLOOR = 0.1  # of a temperature
_TINY = 1e-8  # in ratios


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """softmax(o)[y] (B,) of logits (B, C)."""
    return logits.softmax(1).gather(1, labels[:, None])[:, 0]


def dominance(first: Tensor, second: Tensor) -> Tensor:
    """rho, a scalar: the sum of the first kind's confidences (B,) over the second's. Above 1 the first is dominant."""
    return first.sum() / (second.sum() + _TINY)


def class_means(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of values (B,) over the samples of each class (C,); NaN for a class that is absent."""
    total = torch.zeros(classes, dtype=torch.float64, device=values.device).index_add(0, labels, values.double())
    return total / torch.bincount(labels, minlength=classes)


def class_temperatures(
    first: Tensor, second: Tensor, kappa: float = 2.0, floor: float = FLOOR, geometric: bool = False
) -> Tensor:
    """tau (C,) in [floor, 1]: below 1 for classes in which the weak kind lags more than on average.

    R = first / second; where the first kind dominates on average (mean R > 1), tau = 1 / (1 + kappa ln(R / mean R))
    for R above the mean; else tau = 1 / (1 + kappa ln(mean R / R)) for R below it.

    Args:
        first, second: mean confidence in each class (C,) of either kind (`class_means`); NaN: absent.
        kappa: how fast a lag sharpens the lesson.
        floor: smallest temperature.
        geometric: the mean of R over classes. The arithmetic one, the authors', is not the inverse of the mean of
            1 / R, so that the kinds' order matters a little; by the geometric one it does not.

    Returns:
        All 1 where fewer than two classes are present.
    """
    present = torch.isfinite(first) & torch.isfinite(second) & (second > 0)
    tau = torch.ones(len(first), dtype=torch.float64, device=first.device)
    if int(present.sum()) < 2:
        return tau.float()
    ratio = (first[present].double() + _TINY) / (second[present].double() + _TINY)
    mean = ratio.log().mean().exp() if geometric else ratio.mean()
    lag = torch.log(ratio / mean) if mean > 1 else torch.log(mean / ratio)
    tau[present] = 1 / (1 + kappa * lag.clamp_min(0))
    return tau.clamp(floor, 1).float()


def class_weights(first: Tensor, second: Tensor, kappa: float = 2.0, geometric: bool = False) -> Tensor:
    """1 + kappa ln(lag) (C,), weights on samples in place of temperatures: 1 / tau without its floor."""
    return 1 / class_temperatures(first, second, kappa, 0.0, geometric)


def infiltration_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    tau: Tensor,
    *,
    weights: Tensor | None = None,
    scale_tau2: bool = False,
) -> Tensor:
    """L_inf = -(1/B) sum_i sum_c p_i[c] log r_i[c], p and r softened by the temperature of the sample's class.

    Args:
        student: o_W^inf (B, C), of the weak kind's infiltration branch.
        teacher: o_D^self of the round's global model (B, C); takes no gradient.
        labels: (B,).
        tau: (C,).
        weights: (C,), on samples by class; default 1.
        scale_tau2: multiply each sample's term by tau^2, as distillation often does.
    """
    t = tau[labels][:, None]
    p = (teacher.detach() / t).softmax(1)
    each = -(p * F.log_softmax(student / t, dim=1)).sum(1)
    if weights is not None:
        each = each * weights[labels]
    if scale_tau2:
        each = each * t[:, 0].square()
    return each.mean()


def weak_of(rho: float, kinds: tuple[K, K]) -> tuple[K, K]:
    """(dominant, weak) of two kinds: the first is dominant where rho > 1."""
    first, second = kinds
    return (first, second) if rho > 1 else (second, first)
