"""Metrics the long way round."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from reference.vectors import cosine


def frechet(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The textbook form with a matrix square root."""
    a, b = np.cov(x.T), np.cov(y.T)
    root = np.real(scipy.linalg.sqrtm(a @ b))
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root))


def inception(p: list[list[float]]) -> float:
    marginal = [math.fsum(column) / len(p) for column in zip(*p, strict=True)]
    each = [math.fsum(x * math.log(x / m) for x, m in zip(row, marginal, strict=True) if x > 0) for row in p]
    return math.exp(math.fsum(each) / len(p))


def clip(images: list[list[float]], texts: list[list[float]]) -> float:
    return math.fsum(max(0.0, cosine(x, t)) for x, t in zip(images, texts, strict=True)) / len(images)
