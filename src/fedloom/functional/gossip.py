"""Graphs of n peers as adjacency matrices, bool (n, n), symmetric, without loops; and the weights of gossip on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Adjacency = NDArray[np.bool_]


def complete(n: int) -> Adjacency:
    """All with all."""
    return ~np.eye(n, dtype=np.bool_)


def ring(n: int) -> Adjacency:
    """Each with the next, the last with the first; of two peers one edge."""
    found = np.zeros((n, n), dtype=np.bool_)
    i = np.arange(n if n > 2 else n - 1)
    found[i, (i + 1) % n] = True
    return found | found.T


def regular(n: int, degree: int, rng: np.random.Generator) -> Adjacency:
    """A connected random graph in which each has `degree` neighbours (Steger and Wormald 1999; not quite uniform).

    Args:
        degree: 2 to n - 1; n * degree is even.
    """
    while True:
        found = _paired(n, degree, rng)
        if found is not None and connected(found):
            return found


def _paired(n: int, degree: int, rng: np.random.Generator) -> Adjacency | None:
    """Ends of edges paired at random, those anew that would make a loop or a double; None where that ends nowhere."""
    found = np.zeros((n, n), dtype=np.bool_)
    ends = np.repeat(np.arange(n), degree)
    while len(ends):
        before, left = len(ends), []
        for a, b in rng.permutation(ends).reshape(-1, 2):
            if a == b or found[a, b]:
                left += [a, b]
            else:
                found[a, b] = found[b, a] = True
        ends = np.array(left, dtype=np.int64)
        open_ = np.unique(ends)
        if len(ends) == before and (found[np.ix_(open_, open_)] | np.eye(len(open_), dtype=np.bool_)).all():
            return None
    return found


def connected(adjacency: Adjacency) -> bool:
    """Whether each peer can be reached from the first."""
    reached = np.zeros(len(adjacency), dtype=np.bool_)
    reached[:1] = True
    for _ in range(len(adjacency)):
        reached = reached | adjacency[reached].any(0)
    return bool(reached.all())


def metropolis(adjacency: Adjacency) -> NDArray[np.float64]:
    """Metropolis-Hastings weights W (n, n) of x_k <- sum over m of W_km x_m (Xiao, Boyd and Lall 2005).

        W_km = 1 / (1 + max(d_k, d_m)) for neighbours,  W_kk = 1 - sum over m of W_km

    Symmetric and doubly stochastic on any graph: the mean over peers stays what it was.
    """
    degree = adjacency.sum(1)
    weights = np.where(adjacency, 1.0 / (1 + np.maximum(degree[:, None], degree)), 0.0)
    return weights + np.diag(1.0 - weights.sum(1))
