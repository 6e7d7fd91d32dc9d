"""Consensus of clients on shared samples, as the methods that FedMMKT is compared with take it.

K clients, N samples, C classes. An absent client (`present` false) has no part in anything, whatever its rows hold.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedloom.functional.confidence import entropy
from fedloom.functional.contrast import client_weights


def modality_mean(values: Tensor, group: Sequence[Hashable], present: Tensor) -> Tensor:
    """Mean over the clients of each modality, then over the modalities that have an answer.

    How methods made for one modality are used with two: trained apart, put together over all clients.

    Args:
        values: (K, N, D), logits or representations.
        group: modality of each client, K names.
        present: bool (K, N).

    Returns:
        (N, D); zero where nobody is present.

    Raises:
        ValueError: shapes disagree.
    """
    return grouped(values, shares(group, present))


def shares(group: Sequence[Hashable], present: Tensor) -> Tensor:
    """The weights of `modality_mean`: (K, N), each column sums to 1, or 0 where nobody is present."""
    return within(torch.ones_like(present, dtype=torch.float32), group, present)


def within(weights: Tensor, group: Sequence[Hashable], present: Tensor) -> Tensor:
    """Weights made to sum to one within each modality, then shared equally between those that have an answer.

    Args:
        weights: (K, N), not negative. Where those of a modality are all zero, its clients weigh the same.
        group: modality of each client, K names.
        present: bool (K, N).

    Returns:
        (K, N), each column sums to 1, or 0 where nobody is present.
    """
    if len(group) != len(weights) or weights.shape != present.shape:
        raise ValueError(
            f"weights {tuple(weights.shape)} and present {tuple(present.shape)} must be (K, N) with K = {len(group)}"
        )
    out = torch.zeros_like(weights)
    answered = torch.zeros_like(weights[:1]) if len(weights) else weights.new_zeros(1, weights.shape[1])
    for modality in dict.fromkeys(group):
        own = [k for k, m in enumerate(group) if m == modality]
        here = present[own]
        given = weights[own].masked_fill(~here, 0.0)
        given = torch.where(given.sum(0) > 0, given, here.to(given.dtype))
        out[own] = given / given.sum(0).clamp(min=torch.finfo(given.dtype).tiny)
        answered += here.any(0)
    return out / answered.clamp(min=1)


def grouped(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over clients, in which a row of weight 0 may hold anything: (K, N, D), (K, N) -> (N, D)."""
    if values.shape[:2] != weights.shape:
        raise ValueError(f"values {tuple(values.shape)} must be (K, N, D) of weights {tuple(weights.shape)}")
    return torch.einsum("knd,kn->nd", values.masked_fill((weights == 0)[..., None], 0.0), weights)


# ------------------------------------------------------------------------------------------------------- Fed-ET


class Consensus(NamedTuple):
    """logits (N, C); labels (N,), -1 where nobody answered; diversity (N, C), of the clients that disagree."""

    logits: Tensor
    labels: Tensor
    diversity: Tensor


def variance_weights(logits: Tensor, group: Sequence[Hashable], present: Tensor) -> Tensor:
    """Each client's say on each sample: the variance of its logits over the classes (Fed-ET, arXiv 2204.12703).

        alpha_k = Var(l_k) / sum over m of Var(l_m)        Var: population variance over the C entries

    Within each modality; where all variances are zero, equal.

    Args:
        logits: (K, N, C).
        group: modality of each client, K names.
        present: bool (K, N).

    Returns:
        (K, N), see `within`.
    """
    if not len(logits):
        return logits.new_zeros(present.shape)
    spread = logits.masked_fill(~present[..., None], 0.0).var(-1, unbiased=False)
    return within(spread, group, present)


def weighted_consensus(
    logits: Tensor,
    group: Sequence[Hashable],
    present: Tensor,
    together: Callable[[Tensor, Tensor], Tensor] = grouped,
) -> Consensus:
    """Consensus logits, labels, and what those think who disagree with the label (Fed-ET, eqs. 2-5).

    L = sum alpha_k l_k;  y = argmax L;  L_div = sum over k with argmax l_k != y of alpha_k l_k

    together: how values (K, N, C) with weights (K, N) are put together in L, (N, C); L_div is always the sum.
    """
    weights = variance_weights(logits, group, present)
    total = together(logits, weights)
    labels = total.argmax(-1)
    differ = (logits.nan_to_num().argmax(-1) != labels) & present
    diversity = grouped(logits, weights.masked_fill(~differ, 0.0))
    return Consensus(total, labels.masked_fill(~present.any(0), -1), diversity)


# ------------------------------------------------------------------------------------------------------ FedGEMS


def knowing_weights(logits: Tensor, labels: Tensor, present: Tensor, floor: float = 0.01) -> Tensor:
    """The say of the clients that are right: softmax over them of 1 / H (FedGEMS, arXiv 2110.11027, eq. 5).

    Those that are wrong have none: they are masked by -inf, so that they keep no rest of a weight.

    Args:
        logits: (K, N, C).
        labels: (N,), the true ones (or what stands for them).
        present: bool (K, N).
        floor: smallest entropy in nats: one answer without doubt does not make the numbers overflow.

    Returns:
        (K, N), each column sums to 1, or 0 where nobody is right.
    """
    clean = logits.masked_fill(~present[..., None], 0.0)
    right = (clean.argmax(-1) == labels) & present
    return client_weights(1.0 / entropy(clean).clamp(min=floor), right)
