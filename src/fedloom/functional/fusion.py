"""MultiRepFusion: attend, weigh, sum (FedMMKT, eqs. 6-10), and its variants on logits (28-30) and views (33).

In all of it an absent client (`present` false) has no part in means, scores or sums, whatever its rows hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedloom.errors import BadInput, unknown
from fedloom.functional.attention import Attention, cross_attention
from fedloom.functional.contrast import client_weights, contrast_weights, stacked_scores


class Fused(NamedTuple):
    """representation (M, D), R of eq. 10; weights (K, M), alpha of eq. 9."""

    representation: Tensor
    weights: Tensor


Together = Callable[[Tensor, Tensor], Tensor]  # (K, N, D) and weights (K, N) -> (N, D), in place of a weighted sum


def mean_over(representations: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean over the clients present for each sample (K, N, D) -> (N, D); zero where nobody is.

    Args:
        representations: (K, N, D).
        present: bool (K, N), or None for all.

    Raises:
        ValueError: no client at all, or shapes disagree.
    """
    if not len(representations):
        raise ValueError("a mean over no clients")
    if present is None:
        return representations.mean(0)
    if present.shape != representations.shape[:2]:
        raise ValueError(
            f"present {tuple(present.shape)} must be (K, N) of representations {tuple(representations.shape)}"
        )
    return _only(representations, present).sum(0) / present.sum(0).clamp(min=1)[:, None]


def _centre(representations: Tensor, present: Tensor, together: Together | None) -> Tensor:
    """The anchor of eq. 8: the mean over the clients present, or what `together` makes of them."""
    return mean_over(representations, present) if together is None else together(representations, present.float())


def weight_entropy(weights: Tensor) -> float | None:
    """Mean over samples of the entropy of alpha (K, M), as a share of log K: 1 where fusion is a plain mean.

    None without a sample, or with one client.
    """
    if weights.shape[1] == 0 or len(weights) < 2:
        return None
    spread = -torch.special.xlogy(weights, weights).sum(0) / math.log(len(weights))
    return float(spread.mean())


def fuse(representations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over clients (FedMMKT, eqs. 10, 30): (K, N, D), (K, N) -> (N, D). ValueError if shapes disagree."""
    if weights.shape != representations.shape[:2]:
        raise ValueError(
            f"weights {tuple(weights.shape)} must be (K, N) of representations {tuple(representations.shape)}"
        )
    return torch.einsum("knd,kn->nd", representations, weights)


def balanced(scores: Tensor, group: Sequence[Hashable], present: Tensor | None = None) -> Tensor:
    """Scores less log N_m, so that a modality's total weight does not grow with its number of clients.

    Args:
        scores: (K, N), before the softmax of eq. 9.
        group: modality of each client, K names.
        present: bool (K, N); N_m counts the clients present for the sample.

    Returns:
        (K, N).
    """
    if len(group) != len(scores):
        raise ValueError(f"{len(group)} groups for {len(scores)} clients")
    here = torch.ones_like(scores, dtype=torch.bool) if present is None else present
    same = torch.tensor([[a == b for b in group] for a in group], dtype=scores.dtype)  # (K, K)
    sizes = (same.to(scores.device) @ here.to(scores.dtype)).clamp(min=1)  # (K, N)
    return scores - sizes.log()


@torch.no_grad()
def fuse_modalities(
    image: Tensor,
    text: Tensor,
    *,
    image_present: Tensor | None = None,
    text_present: Tensor | None = None,
    mode: Attention = "paired",
    attention_temperature: float = 0.1,
    heads: int = 12,
    module: Callable[[Tensor, Tensor], Tensor] | None = None,
    temperature: float = 1.0,
    include_self: bool = False,
    anchor: Literal["raw", "enhanced"] = "raw",
    scored: Literal["raw", "enhanced"] = "enhanced",
    balance: bool = False,
    together: Together | None = None,
) -> Fused:
    """One representation a sample from clients of two modalities (FedMMKT, eqs. 6-10, in that order).

    Args:
        image, text: (K_I, M, D) and (K_T, M, D), each modality's representations of the retained samples.
        image_present, text_present: bool (K_I, M) and (K_T, M), or None for all.
        mode: cross-attention, see `cross_attention`, with `attention_temperature` and `heads`.
        module: for mode `mha`: queries (K, M, D), context (M, D) -> (K, M, D).
        temperature: tau of eq. 8, as `include_self` is its. balance: both modalities have equal say, of any size.
        anchor: what eq. 8 compares with: means of what clients sent (`raw`) or of what attention made of it.
        scored: what it compares with that, likewise; what attention made holds the anchor, so all score alike.
        together: how clients' rows are put together in means and in eq. 10; None: as the paper has it.

    Returns:
        R (M, D), and weights (K_I + K_T, M), image clients first; zero where nobody is present. No gradient.

    Raises:
        ValueError: shapes disagree, or a modality has no client (then `fuse_views` applies).
        BadInput: an unknown option, or mode `mha` without a module.
    """
    _check_pair(image, text, anchor=anchor, scored=scored)
    attend = _attention(mode, attention_temperature, heads, module)
    image_here, text_here = (_or_all(z, p) for z, p in ((image, image_present), (text, text_present)))
    mean_image, mean_text = _centre(image, image_here, together), _centre(text, text_here, together)  # (M, D) each
    asked = torch.cat([image := _only(image, image_here), text := _only(text, text_here)])
    image, text = attend(image, mean_text), attend(text, mean_image)  # eqs. 6, 7
    if anchor == "enhanced":
        mean_image, mean_text = _centre(image, image_here, together), _centre(text, text_here, together)
    both, here = torch.cat([image, text]), torch.cat([image_here, text_here])  # (K, M, D), (K, M)
    anchors, asked = [mean_text] * len(image) + [mean_image] * len(text), both if scored == "enhanced" else asked
    scores = stacked_scores(asked, anchors, temperature, include_self)  # eq. 8
    scores = balanced(scores, [0] * len(image) + [1] * len(text), here) if balance else scores
    weights = client_weights(scores, here)  # eq. 9
    return Fused((together or fuse)(both, weights), weights)  # eq. 10


def _check_pair(image: Tensor, text: Tensor, **options: str) -> None:
    """ValueError unless there are (K_I, M, D) and (K_T, M, D), with a client each. BadInput for an unknown option."""
    for option, value in options.items():
        if value not in ("raw", "enhanced"):
            raise unknown(option, value, ("raw", "enhanced"))
    if not len(image) or not len(text) or image.shape[1:] != text.shape[1:]:
        raise ValueError(
            f"image {tuple(image.shape)} and text {tuple(text.shape)} must be (K, M, D), each with a client"
        )


def _attention(
    mode: Attention, temperature: float, heads: int, module: Callable[[Tensor, Tensor], Tensor] | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Queries (K, M, D) and context (M, D) -> (K, M, D), by `module` for mode `mha`, without which BadInput."""
    if mode != "mha":
        return lambda queries, context: cross_attention(queries, context, mode, temperature, heads)
    if module is None:
        raise BadInput("attention 'mha' needs its module: a LearnedCrossAttention")
    return module


def fuse_views(
    representations: Tensor,
    augmented: Tensor,
    *,
    present: Tensor | None = None,
    temperature: float = 1.0,
    include_self: bool = False,
    together: Together | None = None,
) -> Fused:
    """One representation a sample from clients of one modality (u-FedMMKT: eq. 33, then eqs. 9-10).

    The anchor is the clients' mean representation of an augmented view of the same sample.

    Args:
        representations: (K, M, D).
        augmented: (K, M, D), of the augmented views.
        present: bool (K, M), or None for all.
        temperature: tau of eq. 33, as `include_self` is its.
        together: as of `fuse_modalities`.

    Returns:
        R (M, D) and weights (K, M); zero where nobody is present. No gradient.

    Raises:
        ValueError: shapes disagree.
    """
    if representations.shape != augmented.shape:
        raise ValueError(
            f"representations {tuple(representations.shape)} and augmented {tuple(augmented.shape)} differ in shape"
        )
    here = _or_all(representations, present)
    with torch.no_grad():
        z = _only(representations, here)
        weights = contrast_weights(z, _centre(augmented, here, together), temperature, include_self, here)
        return Fused((together or fuse)(z, weights), weights)


def fuse_logits(
    logits: Tensor,
    modality_of_client: Sequence[Hashable],
    *,
    centre: bool = True,
    temperature: float = 1.0,
    include_self: bool = False,
    present: Tensor | None = None,
    together: Together | None = None,
) -> Tensor:
    """Consensus logits, whose argmax is the label (l-FedMMKT, eqs. 28-30; 31 is the caller's argmax).

    The anchor is the mean over clients of all other modalities; with one modality, the mean over all clients.

    Args:
        logits: (K, M, C). A row that is not finite counts as absent.
        modality_of_client: K names.
        centre: subtract each row's mean before the cosine, so that a constant added to a client's logits does nothing
            to its weight. The sum of eq. 30 runs over the logits as sent.
        temperature: tau of eq. 28, as `include_self` is its.
        present: bool (K, M), or None for all.
        together: as of `fuse_modalities`.

    Returns:
        (M, C); zero where nobody is present. No gradient.

    Raises:
        ValueError: shapes disagree.
    """
    if logits.ndim != 3 or len(modality_of_client) != len(logits):
        raise ValueError(f"logits {tuple(logits.shape)} must be (K, M, C) with K = {len(modality_of_client)}")
    here = _or_all(logits, present) & torch.isfinite(logits).all(-1)
    with torch.no_grad():
        logits = _only(logits, here)
        z = logits - logits.mean(-1, keepdim=True) if centre else logits
        anchors = {}
        for modality in dict.fromkeys(modality_of_client):
            other = [k for k, m in enumerate(modality_of_client) if m != modality] or list(range(len(logits)))
            anchors[modality] = _centre(z[other], here[other], together)
        scores = stacked_scores(z, [anchors[m] for m in modality_of_client], temperature, include_self)
        return (together or fuse)(logits, client_weights(scores, here))


def _or_all(z: Tensor, present: Tensor | None) -> Tensor:
    """`present` (K, M), or all true."""
    return torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if present is None else present


def _only(z: Tensor, present: Tensor) -> Tensor:
    """(K, M, D) with zeros for absent rows, which may hold NaN. Not a copy where nobody is absent."""
    return z if bool(present.all()) else z.masked_fill(~present[..., None], 0.0)
