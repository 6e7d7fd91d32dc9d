"""The p-value of one-run auditing term by term, with whole binomial coefficients (arXiv 2305.08846, Corollary 5.4)."""

from __future__ import annotations

import math


def tail(v: int, r: int, q: float) -> float:
    """P[Binomial(r, q) >= v]."""
    return math.fsum(math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(max(v, 0), r + 1))


def p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    beta = tail(v, r, q)
    alpha = max(((tail(v - i, r, q) - beta) / i for i in range(1, m + 1)), default=0.0)
    return min(1.0, beta + 2 * m * delta * alpha)
