"""Inception score: are single pictures clear, and all of them varied?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fedloom.errors import BadInput


def inception_score(probabilities: ArrayLike, splits: int = 1) -> tuple[float, float]:
    """exp of the mean over samples of KL(p(y|x) || p(y)), as mean and standard deviation over splits.

    Split s holds the samples s, s + splits, ...: so that pictures in the order of their classes may be split.

    Args:
        probabilities: (N, C), rows sum to 1; arrays or CPU tensors.
        splits: in how many parts the score is taken.

    Returns:
        Mean, in [1, C], and standard deviation (n - 1 in the denominator; 0.0 for one split).

    Raises:
        BadInput: rows that are no probabilities, or fewer samples than splits.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not 1 <= splits <= len(p):
        raise BadInput(f"probabilities {p.shape} must be (N, C) with N at least the number of splits, {splits}")
    if not ((p >= 0).all() and np.abs(p.sum(1) - 1).max() < 1e-3):  # a NaN fails the first
        raise BadInput("inception score: a row is not a distribution over the classes")
    scores = []
    for s in range(splits):
        part = p[s::splits]
        marginal = np.broadcast_to(part.mean(0), part.shape)
        # 0 log 0 is 0, and where p(y) = 0 so is every p(y|x).
        ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)
        scores.append(float(np.exp((part * np.log(ratio)).sum(1).mean())))
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if splits > 1 else 0.0
