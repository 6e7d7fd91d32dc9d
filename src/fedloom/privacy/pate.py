"""Confident-GNMax (PATE; Papernot et al. 2018, arXiv 1802.08908): labels by noisy counts of votes, and what they cost.

Neighbouring data sets differ in all the data of one client: on each sample its vote may go from one class to another,
so that two counts change by one. Costs are Renyi divergences, which add up over samples. Each has a bound that holds
whatever the votes, and one by the votes themselves: where most agree the label is hardly in doubt, and says little of
anyone. The latter depends on the data, and so is no more public than they are.

Pure functions of numpy arrays; counts are (S, C), orders alpha > 1 are (A,).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

Array = NDArray[Any]


def confident_gnmax(
    counts: Array, threshold: float, sigma_1: float, sigma_2: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels (S,), -1 where the quorum is not reached (algorithm 1).

    The largest count plus N(0, sigma_1^2) must be `threshold` or more; then the label is the largest of counts plus
    N(0, sigma_2^2).

    Args:
        counts: votes (S, C). threshold: T, in votes. sigma_1, sigma_2: in votes.
    """
    counts = np.asarray(counts, dtype=np.float64)
    enough = counts.max(1) + rng.normal(0.0, sigma_1, len(counts)) >= threshold
    labels = (counts + rng.normal(0.0, sigma_2, counts.shape)).argmax(1)
    return np.where(enough, labels, -1)


def label_rdp(counts: Array, sigma: float, orders: Array) -> NDArray[np.float64]:
    """What the label of one sample with counts (C,) costs at each order, by these counts: GNMax with noise `sigma`."""
    return gnmax_rdp(log_other(counts, sigma), sigma, orders)


def quorum_rdp(largest: float, threshold: float, sigma: float, orders: Array) -> NDArray[np.float64]:
    """What the quorum check of one sample costs at each order, by its largest count.

    One client changes the largest count by one at most, where it changes two counts of GNMax: as GNMax with noise
    sqrt(2) sigma, whose unlikely outcome is the other answer of the check (section 4.2).
    """
    log_yes = float(norm.logsf(threshold, loc=largest, scale=sigma))
    log_no = float(norm.logcdf(threshold, loc=largest, scale=sigma))
    return gnmax_rdp(min(log_yes, log_no), math.sqrt(2.0) * sigma, orders)


def log_other(counts: Array, sigma: float) -> float:
    """ln of a bound on the probability that GNMax does not give the class with most votes (proposition 7)."""
    counts = np.asarray(counts, dtype=np.float64)
    best = int(counts.argmax())
    behind = np.delete(counts[best] - counts, best)
    if not len(behind):
        return -math.inf  # one class: there is nothing else to give
    return min(float(logsumexp(norm.logsf(behind, scale=math.sqrt(2.0) * sigma))), math.log1p(-1 / len(counts)))


def any_rdp(sigma: float, orders: Array) -> NDArray[np.float64]:
    """What GNMax with noise `sigma` costs at each order, whatever the votes: alpha / sigma^2 (proposition 8)."""
    return np.asarray(orders, dtype=np.float64) / sigma**2


def gnmax_rdp(log_q: float, sigma: float, orders: Array) -> NDArray[np.float64]:
    """Bound on the Renyi divergence of GNMax where all but one outcome have probability q or less (theorem 6).

    With the two higher orders of proposition 10. Never more than `any_rdp`.
    """
    orders = np.asarray(orders, dtype=np.float64)
    bound = any_rdp(sigma, orders)
    if log_q == -math.inf:
        return np.zeros_like(bound)
    mu_2 = sigma * math.sqrt(-log_q)
    mu_1 = mu_2 + 1
    eps_1, eps_2 = mu_1 / sigma**2, mu_2 / sigma**2
    # The theorem asks for mu_2 > 1, q small enough that the bound grows with q, and an A that is positive.
    if mu_2 <= 1 or -log_q <= eps_2:
        return bound
    most = (mu_2 - 1) * eps_2 - mu_2 * (math.log1p(1 / (mu_1 - 1)) + math.log1p(1 / (mu_2 - 1)))
    if log_q > most:
        return bound
    log_p = _log1mexp(log_q)  # ln(1 - q)
    log_a = (orders - 1) * (log_p - _log1mexp((log_q + eps_2) * (1 - 1 / mu_2)))
    log_b = (orders - 1) * (eps_1 - log_q / (mu_1 - 1))
    by_votes = np.logaddexp(log_p + log_a, log_q + log_b) / (orders - 1)
    return np.where(orders < mu_1, np.minimum(bound, by_votes), bound)


def _log1mexp(x: float) -> float:
    """ln(1 - e^x) of x < 0."""
    return math.log1p(-math.exp(x)) if x < -1 else math.log(-math.expm1(x))
