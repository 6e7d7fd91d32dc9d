"""Averages that a few hostile clients cannot move far, and norm bounds that are learned from the round.

K clients, N samples (or one block of parameters, N = 1), D components.

Yin, D. et al.: Byzantine-robust distributed learning: towards optimal statistical rates. ICML 2018 (median, trimmed
mean). Pillutla, K. et al.: Robust aggregation for federated learning. IEEE Transactions on Signal Processing 70 (2022)
(geometric median by the smoothed Weiszfeld algorithm). Blanchard, P. et al.: Machine learning with adversaries:
Byzantine tolerant gradient descent. NeurIPS 2017 (multi-Krum).

Flower has the first two and Krum for lists of whole models; weights, absent clients and samples are our own need.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from fedloom.errors import BadInput, unknown

Rule = Literal["mean", "median", "trimmed", "geometric_median", "multi_krum"]
TIED = 1e-9  # relative: sums of weights closer than this are equal
SMALLEST = 1e-6  # nu of the smoothed Weiszfeld algorithm, over the points' typical distance from the median
ITERATIONS = 200


@torch.no_grad()
def combine(
    values: Tensor,
    rule: Rule = "mean",
    *,
    weights: Tensor | None = None,
    present: Tensor | None = None,
    byzantine: float = 0.25,
) -> Tensor:
    """One row a sample of what K clients say of it.

    - `mean`: weighted.
    - `median`: of each component, weighted: half of the weight lies on either side (Yin et al.).
    - `trimmed`: of each component, without the floor(byzantine K) smallest and as many largest (Yin et al.).
    - `geometric_median`: the point of least weighted sum of distances (Pillutla et al.).
    - `multi_krum`: mean of the K - f clients whose K - f - 2 nearest others are nearest, f = floor(byzantine K)
      (Blanchard et al.); with fewer than 2 f + 3 clients its proof does not hold.

    Args:
        values: (K, N, D). Rows that are not finite count as absent.
        weights: (K, N), not negative; a client of weight 0 is absent. None: all the same. Which rows are cut or left
            out never depends on them; only `mean`, `trimmed` and `multi_krum` average by them.
        present: bool (K, N), or None for all. K counts the clients present for the sample.
        byzantine: largest share of the clients that may be hostile, in [0, 0.5).

    Returns:
        (N, D), in the type of `values`; zero where nobody is present. No gradient.

    Raises:
        ValueError: shapes disagree.
        BadInput: an unknown rule, `byzantine` outside [0, 0.5), or weights that are negative or not finite.
    """
    if rule not in get_args(Rule):
        raise unknown("aggregate", rule, get_args(Rule))
    if not 0.0 <= byzantine < 0.5:
        raise BadInput(f"byzantine is {byzantine}; the share of hostile clients lies in [0, 0.5)")
    w = _weights(values, weights, present)
    z = values.double().masked_fill((w == 0)[..., None], 0.0)
    if not len(z):
        return values.new_zeros(values.shape[1:])
    if rule == "median":
        found = _median(z, w)
    elif rule == "trimmed":
        found = _trimmed(z, w, byzantine)
    elif rule == "geometric_median":
        found = _geometric_median(z, w)
    else:
        found = _mean(z, w * _nearest(z, w, byzantine) if rule == "multi_krum" else w)
    return found.to(values.dtype)


def clip_to_median(
    values: Tensor, factor: float, present: Tensor | None = None, centre: Tensor | None = None
) -> Tensor:
    """Each row shortened to `factor` times the median length of the rows that clients have of that sample.

    Args:
        values: (K, N, D). Rows that are not finite stay, and have no part in the median.
        factor: above 0.
        present: bool (K, N), or None for all.
        centre: (N, D), what lengths are measured from; None: zero.

    Returns:
        (K, N, D); rows that are short enough are as they were, to the bit.

    Raises:
        BadInput: a factor that is not above 0.
    """
    if not factor > 0:
        raise BadInput(f"the norm bound is {factor} times the median; it must be above 0")
    if not len(values):
        return values
    start = torch.zeros_like(values[0]) if centre is None else centre
    norms = torch.linalg.vector_norm((values - start).double(), dim=-1)  # (K, N)
    here = torch.isfinite(values).all(-1) & (True if present is None else present)
    bound = factor * middle(norms, here)
    scale = bound / norms.clamp(min=torch.finfo(torch.float64).tiny)
    far = here & (scale < 1)
    shorter = start + (values - start) * scale[..., None].to(values.dtype)
    return torch.where(far[..., None], shorter, values)


def middle(numbers: Tensor, present: Tensor) -> Tensor:
    """The median over the clients present, the mean of the two in the middle: (K, N), bool (K, N) -> (N,).

    0 where nobody is.
    """
    return _median(numbers.double().masked_fill(~present, 0.0)[..., None], present.double())[:, 0]


def _weights(values: Tensor, weights: Tensor | None, present: Tensor | None) -> Tensor:
    """Float64 (K, N), 0 for who is absent; columns sum to 1 where there is anybody."""
    if values.ndim != 3:
        raise ValueError(f"values {tuple(values.shape)} must be (K, N, D)")
    for name, given in (("weights", weights), ("present", present)):
        if given is not None and given.shape != values.shape[:2]:
            raise ValueError(f"{name} {tuple(given.shape)} must be (K, N) of values {tuple(values.shape)}")
    here = torch.isfinite(values).all(-1)
    here = here if present is None else here & present
    w = torch.ones_like(here, dtype=torch.float64) if weights is None else weights.double()
    if not bool((torch.isfinite(w) & (w >= 0)).all()):
        raise BadInput("weights of clients must be finite and not negative")
    w = w.masked_fill(~here, 0.0)
    total: Tensor = w.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return w / total


def _mean(z: Tensor, w: Tensor) -> Tensor:
    total = w.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.einsum("knd,kn->nd", z, w / total)


def _sorted(z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Values in rising order, those of absent clients last, and the weight of each: (K, N, D) both."""
    order = z.masked_fill((w == 0)[..., None], torch.inf).argsort(dim=0, stable=True)
    return z.gather(0, order), w[..., None].expand_as(z).gather(0, order)


def _median(z: Tensor, w: Tensor) -> Tensor:
    """Mean of the lower and the upper weighted median, of each component."""
    rows, weight = _sorted(z, w)
    below = weight.cumsum(0)
    half = below[-1:] / 2
    lower = (below < half * (1 - TIED)).sum(0, keepdim=True)
    upper = (below <= half * (1 + TIED)).sum(0, keepdim=True).clamp(max=len(z) - 1)
    return ((rows.gather(0, lower) + rows.gather(0, upper)) / 2)[0]


def _trimmed(z: Tensor, w: Tensor, byzantine: float) -> Tensor:
    rows, weight = _sorted(z, w)
    here = (w > 0).sum(0)  # (N,)
    cut = _hostile(here, byzantine)
    rank = torch.arange(len(z), device=z.device)[:, None]
    inside = (rank >= cut) & (rank < here - cut)  # (K, N)
    weight = weight * inside[..., None]
    return (rows * weight).sum(0) / weight.sum(0).clamp(min=torch.finfo(torch.float64).tiny)


def _geometric_median(z: Tensor, w: Tensor) -> Tensor:
    """beta_k = w_k / max(nu, |v - z_k|), v = sum beta_k z_k / sum beta_k, from the median of each component."""
    v = _median(z, w)
    far = torch.linalg.vector_norm(z - v, dim=-1)
    typical = middle(far, w > 0)
    nu = (SMALLEST * typical).clamp(min=torch.finfo(torch.float64).tiny)
    for _ in range(ITERATIONS):
        new = _mean(z, w / torch.maximum(torch.linalg.vector_norm(z - v, dim=-1), nu))
        moved, v = torch.linalg.vector_norm(new - v, dim=-1), new
        if bool((moved <= SMALLEST * typical).all()):
            break
    return v


def _nearest(z: Tensor, w: Tensor, byzantine: float) -> Tensor:
    """bool (K, N): the K - f clients of the lowest Krum score."""
    here = w > 0
    apart = torch.cdist(z.transpose(0, 1), z.transpose(0, 1), compute_mode="donot_use_mm_for_euclid_dist").square()
    nobody = ~here.T  # (N, K)
    apart = apart.masked_fill(nobody[:, None, :], torch.inf)  # an absent one is nobody's neighbour
    apart.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    count = here.sum(0)  # (N,)
    hostile = _hostile(count, byzantine)
    near = (count - hostile - 2).clamp(min=1)
    ranks = torch.arange(len(z), device=z.device)
    # Who is alone has no neighbour, and is chosen all the same: before those that are absent.
    closest = apart.sort(-1).values.clamp(max=torch.finfo(torch.float64).max)
    closest = closest.masked_fill(ranks >= near[:, None, None], 0.0)
    scores = closest.sum(-1).masked_fill(nobody, torch.inf)  # (N, K)
    place = scores.argsort(dim=-1, stable=True).argsort(-1)
    return ((place < (count - hostile)[:, None]) & ~nobody).T


def _hostile(count: Tensor, byzantine: float) -> Tensor:
    """floor(byzantine K) for each number of clients; plus 1e-9, so that 0.29 * 100 counts as 29."""
    return (count * byzantine + 1e-9).floor().long()
