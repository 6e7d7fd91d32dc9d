"""Dirichlet draws of who gets how much of which class. K clients; pools: the shuffled samples of each class.

Two families go by the same name. One draws, for each class, its shares among the clients (`by_class`; Yurochkin et al.,
arXiv 1905.12022; with a cap CreamFL, FedAFD), the other, for each client, its mix of the classes (`by_client`; Hsu et
al., arXiv 1909.06335). The first makes clients of unlike sizes, the second of equal ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def by_class(
    pools: list[Index], alpha: float, cap: float, reserved: list[Index], rng: np.random.Generator
) -> list[Index]:
    """Cut each class by proportions from Dirichlet(alpha) over the clients below `cap` samples.

    Drawing over those clients alone is the references' rule "set the full clients' proportions to zero,
    renormalise" (a Dirichlet's renormalised part is a Dirichlet), without its dead end: all proportions zero.

    Args:
        pools: of each class its samples, shuffled.
        alpha: concentration.
        cap: samples; infinite: none.
        reserved: what each of the K clients has already.
        rng: of the draws.
    """
    parts: list[list[Index]] = [[] for _ in reserved]
    sizes = np.array([len(own) for own in reserved], dtype=np.float64)
    for pool in pools:
        if not len(pool):
            continue
        room = np.flatnonzero(sizes < cap)  # never empty while a sample is left: the caps add up to N
        share = rng.dirichlet(np.full(len(room), alpha))
        cuts = np.round(np.cumsum(share)[:-1] * len(pool)).astype(np.int64)
        for k, part in zip(room, np.split(pool, cuts)):
            parts[k].append(part)
            sizes[k] += len(part)
    return [joined(part) for part in parts]


def by_client(pools: list[Index], alpha: float, clients: int, rng: np.random.Generator) -> list[Index]:
    """Equal shares; client k's classes are drawn from q_k ~ Dirichlet(alpha p), p the classes' shares in the data.

    Without replacement: a class that is used up leaves q_k, and the others keep their proportions. Where nothing that
    q_k has is left, p of what is left takes its place. The last clients get what remains, as in any such draw.

    Args:
        pools: of each class its samples, shuffled.
        alpha: concentration in all, sum of the Dirichlet's parameters: as skewed as alpha / C in `by_class`.
        clients: K; sizes differ by one at most.
        rng: of the draws.
    """
    left = np.array([len(pool) for pool in pools])
    there = np.flatnonzero(left)
    prior = left[there] / left.sum()
    sizes = [len(share) for share in np.array_split(np.arange(left.sum()), clients)]
    parts: list[Index] = []
    for size in sizes:
        q = np.zeros(len(pools))
        q[there] = rng.dirichlet(np.maximum(alpha * prior, np.finfo(float).tiny))
        taken = np.zeros(len(pools), dtype=np.int64)
        while (missing := size - int(taken.sum())) > 0:
            free = left - taken
            p = q * (free > 0)
            p = p / p.sum() if p.sum() > 0 else free / free.sum()
            taken += np.minimum(rng.multinomial(missing, p), free)
        parts.append(joined([pools[c][left[c] - taken[c] : left[c]] for c in there]))
        left -= taken
    return parts


def joined(arrays: list[Index]) -> Index:
    """One array of several, or of none."""
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64)
