"""Similarity-guided ensemble distillation: whose representation the server believes (FedAFD's SED, arXiv 2603.04890).

K clients that own the modality, P public samples, D components. CreamFL weighs a client's picture representations
against the server's texts; this weighs them against the server's pictures, and texts against texts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import unknown
from fedloom.functional.contrast import contrast_weights, rows_at_a_time
from fedloom.functional.ensemble import grouped
from fedloom.functional.norms import unit

Distance = Literal["mse", "l2"]


class Ensemble(NamedTuple):
    """representations (P, D), not of unit length; weights (K, P): a column sums to 1, or 0 where nobody is present."""

    representations: Tensor
    weights: Tensor


def similarity_ensemble(
    representations: Tensor,
    bank: Tensor,
    temperature: float = 1.0,
    present: Tensor | None = None,
    *,
    tile: int | None = None,
    cosine: bool = True,
) -> Ensemble:
    """The clients' representations of one modality, summed with `similarity_weights` (FedAFD, SED). No gradient.

        I_agg,k = sum over c of w_c,k I_c,k        not brought back to unit length

    Args and errors: those of `similarity_weights`. Where nobody is present, the sum is zero: leave such samples out
    of the distillation.
    """
    weights = similarity_weights(representations, bank, temperature, present, tile=tile, cosine=cosine)
    with torch.no_grad():
        return Ensemble(grouped(representations, weights), weights)


def similarity_weights(
    representations: Tensor,
    bank: Tensor,
    temperature: float = 1.0,
    present: Tensor | None = None,
    *,
    tile: int | None = None,
    cosine: bool = True,
) -> Tensor:
    """Each client's weight on each public sample: how well it picks out the sample among all (FedAFD, SED).

        s_c,k = S_kk / tau - log sum over j of exp(S_kj / tau)        S = I_c I_g^T, j = k among them
        w_.,k = softmax over the clients of s_.,k

    On unit vectors at tau = 1 two clients' weights never differ by more than a factor e^4. P x P numbers are never
    held: see `contrast_scores`.

    Args:
        representations: (K, P, D), I_c; rows of absent clients may hold anything. A row of a present client that is
            not finite makes its sample's weights NaN.
        bank: (P, D), I_g, the server's representations of the same samples, in the same modality.
        temperature: tau.
        present: bool (K, P), or None for all.
        tile: rows at a time; None: see `rows_at_a_time`.
        cosine: False for the dot products of the printed formula. On rows of unit length, as the method sends them,
            both are the same; with cosines no client gains weight by sending longer rows.

    Returns:
        (K, P), each column sums to 1, or 0 where nobody is present. No gradient.

    Raises:
        ValueError: shapes disagree, or no client at all.
        BadInput: a temperature or tile that is not positive.
    """
    if representations.ndim != 3 or not len(representations) or representations.shape[1:] != bank.shape:
        raise ValueError(
            f"representations {tuple(representations.shape)} must be (K, P, D), K >= 1, of a bank {tuple(bank.shape)}"
        )
    if present is not None and present.shape != representations.shape[:2]:
        raise ValueError(
            f"present {tuple(present.shape)} must be (K, P) of representations {tuple(representations.shape)}"
        )
    with torch.no_grad():
        return contrast_weights(
            representations, bank, temperature, include_self=True, present=present, tile=tile, cosine=cosine
        )


def weight_entropy(weights: Tensor) -> Tensor:
    """How undecided the weights are, in nats: (K, P) -> (P,), from 0 (one client has all) to log K (all the same).

    0 where nobody is present.
    """
    nats: Tensor = torch.special.entr(weights)
    return nats.sum(0)


def distillation_distance(representations: Tensor, target: Tensor, kind: Distance = "mse") -> Tensor:
    """How far the server is from the clients' ensemble, one modality (FedAFD, SED).

    - `mse`: mean over all elements, |difference|^2 / D, as the authors' code has it.
    - `l2`: length of the difference, mean over samples, as the paper prints it; D / |difference| times as large.

    Args:
        representations: (B, D), the server's, with gradient.
        target: (B, D), rows of the ensemble; no gradient reaches them.
        kind: `mse` or `l2`.

    Returns:
        Scalar; 0 for an empty batch. At equality 0, with zero gradient.

    Raises:
        ValueError: shapes disagree.
        BadInput: an unknown kind.
    """
    if representations.shape != target.shape or target.ndim != 2:
        raise ValueError(
            f"representations {tuple(representations.shape)} and target {tuple(target.shape)} must both be (B, D)"
        )
    if kind not in ("mse", "l2"):
        raise unknown("distillation distance", kind, ("mse", "l2"))
    if not len(target):
        return representations.sum()
    if kind == "mse":
        return F.mse_loss(representations, target.detach())
    lengths: Tensor = torch.linalg.vector_norm(representations - target.detach(), dim=-1)
    return lengths.mean()


class ScoreFacts(NamedTuple):
    """Of each client's scores of each sample, all (K, P): whether the own partner scores highest (a tie does not
    count); their entropy in nats; their variance."""

    right: Tensor
    entropy: Tensor
    variance: Tensor


@torch.no_grad()
def score_facts(
    representations: Tensor, bank: Tensor, temperature: float = 1.0, *, tile: int | None = None
) -> ScoreFacts:
    """What the cosines of representations with a bank say, where there are no logits over classes. No gradient.

    Entropy is of softmax(cos / temperature) over the bank; variance of the cosines. P x P numbers are never held.

    Args:
        representations: (K, P, D).
        bank: (P, D), row j belongs to sample j: of the other modality, or of the same.
        temperature: of the softmax.
        tile: rows at a time; None: see `rows_at_a_time`.

    Raises:
        ValueError: shapes disagree.
    """
    if representations.ndim != 3 or representations.shape[1:] != bank.shape:
        raise ValueError(f"representations {tuple(representations.shape)} must be (K, P, D) of {tuple(bank.shape)}")
    tile = rows_at_a_time(bank) if tile is None else tile
    anchors, K, P = unit(bank), len(representations), len(bank)
    right = torch.zeros(K, P, dtype=torch.bool, device=bank.device)
    entropy, variance = torch.zeros(2, K, P, device=bank.device)
    for k in range(K):
        for first in range(0, P, tile):
            at = slice(first, first + tile)
            scores = unit(representations[k, at]) @ anchors.T  # (tile, P)
            own = scores.diagonal(first)
            right[k, at] = (scores >= own[:, None]).sum(1) == 1
            entropy[k, at] = torch.special.entr((scores / temperature).softmax(1)).sum(1)
            variance[k, at] = scores.var(1, correction=0)
    return ScoreFacts(right, entropy, variance)
