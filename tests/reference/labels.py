"""Eqs. 3-5."""

from __future__ import annotations

import math

from reference.vectors import log_sum_exp


def entropy(logits: list[float]) -> float:
    """Eq. 3, one row."""
    if not all(math.isfinite(x) for x in logits):
        return math.nan
    z = log_sum_exp(logits)
    return max(0.0, -math.fsum(math.exp(x - z) * (x - z) for x in logits))


def confidence(h: float, mode: str, floor: float, classes: int) -> float:
    """Eq. 3, one entropy."""
    if math.isnan(h):
        return 0.0
    if mode == "inv":
        return 1 / max(h, floor)
    return math.exp(-h) if mode == "exp" else max(0.0, 1 - h / math.log(classes))


def vote(predicted: list[int], weights: list[float], classes: int, drawn: int | None = None) -> tuple[int, int]:
    """Eq. 4, one sample: label and count."""
    voters = [(c, w) for c, w in zip(predicted, weights, strict=True) if c != -1]
    if not voters:
        return -1, 0
    sums = {c: math.fsum(w for v, w in voters if v == c) for c in range(classes)}
    counts = {c: sum(v == c for v, _ in voters) for c in range(classes)}
    best = max(sums.values())
    tied = [c for c in range(classes) if counts[c] and sums[c] >= best * (1 - 1e-9)]
    most = max(counts[c] for c in tied)
    tied = [c for c in tied if counts[c] == most]
    label = drawn if drawn in tied else min(tied)
    return label, counts[label]


def keep(count: int, clients: int, gamma: float) -> bool:
    """Eq. 5."""
    return count > 0 and count >= math.ceil(gamma * clients - 1e-9)
