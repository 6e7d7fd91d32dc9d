"""A lower bound of epsilon from one run with canaries (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846).

Each of m canaries is in the training data by the toss of a fair coin of its own. Whoever sees what the clients sent
guesses r of the coins, and v of the guesses are right. Under (epsilon, delta)-differential privacy few can be: what
epsilon would make as many as v unlikely is ruled out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from fedloom.errors import BadInput

SHARES = (1.0, 0.5, 0.25, 0.125)  # of the canaries, that are guessed: as many bounds, of which the largest counts
MOST_EPSILON = 50.0


def p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """How likely v or more of r guesses on m canaries are right, at most, under (epsilon, delta) (Corollary 5.4).

        P[W >= v] <= f(v) + 2 m delta max over i of (f(v - i) - f(v)) / i,   f(v) = P[Binomial(r, q) >= v]

    with q = e^epsilon / (1 + e^epsilon).

    Raises:
        BadInput: not 0 <= v <= r <= m.
    """
    if not 0 <= v <= r <= m:
        raise BadInput(f"{v} right of {r} guesses on {m} canaries: allowed are 0 <= right <= guesses <= canaries")
    q = 1 / (1 + np.exp(-epsilon))
    i = np.arange(1, v + 1)
    more = np.cumsum(binom.pmf(v - i, r, q)) / i  # (f(v - i) - f(v)) / i
    return float(min(1.0, binom.sf(v - 1, r, q) + 2 * m * delta * max(more, default=0.0)))


def epsilon_bound(m: int, r: int, v: int, delta: float, level: float = 0.05) -> float:
    """The largest epsilon that v right guesses of r rule out with confidence 1 - level; 0 where they rule out none."""
    low, high = 0.0, 1.0
    while p_value(m, r, v, high, delta) < level:
        low, high = high, 2 * high
        if high > MOST_EPSILON:
            return low
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(m, r, v, middle, delta) < level else (low, middle)
    return low


@dataclass(frozen=True)
class Guesses:
    """m canaries, r guesses of which v were right, and the epsilon that they rule out."""

    canaries: int
    guesses: int
    right: int
    epsilon: float
    delta: float
    confidence: float


def guess(
    scores: Sequence[NDArray[np.float64]], inside: Sequence[NDArray[np.bool_]], delta: float, level: float = 0.05
) -> Guesses:
    """The bound from scores of canaries, a client at a time: (m_k,) each, high where one seems to be in.

    Of each client's canaries the highest are taken to be in and as many of the lowest to be out, the middle is left
    open (Algorithm 1): all, a half, a quarter and an eighth. Each bound is taken at a quarter of `level`, so that the
    largest of the four holds at `level` (the union bound); canaries of several clients are guessed together.
    """
    m, found = sum(map(len, scores)), []
    for share in SHARES:
        r = v = 0
        for own, there in zip(scores, inside):
            order, each = np.argsort(own, kind="stable"), int(len(own) * share / 2)
            r += 2 * each
            v += int(there[order[len(own) - each :]].sum()) + int((~there[order[:each]]).sum())
        bound = epsilon_bound(m, r, v, delta, level / len(SHARES)) if r else 0.0
        found.append(Guesses(m, r, v, bound, delta, 1 - level))
    return max(found, key=lambda g: g.epsilon)
