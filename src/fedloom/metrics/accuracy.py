"""Top-1 accuracy, in all and by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples whose predicted class (N,) is their label (N,), in [0, 1].

    Raises:
        BadInput: no sample, or the numbers of the two differ.
    """
    p, y = _pair(predicted, labels)
    return float((p == y).mean())


def per_class_accuracy(predicted: ArrayLike, labels: ArrayLike, classes: int) -> list[float | None]:
    """Share of each class's samples predicted right: C numbers, None for a class without samples.

    Raises:
        BadInput: no sample, the numbers differ, or a label is not in 0..C-1.
    """
    p, y = _pair(predicted, labels)
    if y.min() < 0 or y.max() >= classes:
        raise BadInput(f"labels run from {y.min()} to {y.max()}; with {classes} classes they lie in 0..{classes - 1}")
    total = np.bincount(y, minlength=classes)
    right = np.bincount(y[p == y], minlength=classes)
    return [float(r / n) if n else None for r, n in zip(right, total)]


def _pair(predicted: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    p, y = np.asarray(predicted), np.asarray(labels)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise BadInput(f"predictions {p.shape} and labels {y.shape} must both be (N,) with N > 0")
    return p, y
