"""Contrastive scores, and the clients' weights that follow from them (FedMMKT, eqs. 8-9, 28-29, 33).

Tiled: N samples need N D numbers and one tile, never N x N.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.functional.norms import unit

_CPU_TILE = 512  # a block of scores stays in the cache
# Half a gigabyte a block: few and long operations, so that an accelerator waits for memory and not for their start.
_DEVICE_TILE = 4096
_COLUMN_TILES = 8  # a block of scores is (tile, 8 tile): long rows keep the matrix product at its peak
_NEGLIGIBLE = -80.0  # exp of this beside exp(0) is lost in any type; below it come denormals, ten times slower


@torch.no_grad()
def contrast_scores(
    z: Tensor,
    anchors: Tensor,
    temperature: float = 1.0,
    include_self: bool = False,
    tile: int | None = None,
    cosine: bool = True,
) -> Tensor:
    """How much closer each sample is to its own anchor than to the others' (FedMMKT, eqs. 8, 28, 33).

        s_i = cos(z_i, a_i) / tau - logsumexp over j != i of cos(z_i, a_j) / tau

    Exact at any scale, without gradient. A single sample scores 0; a zero vector has cosine 0 with everything.

    Args:
        z, anchors: (N, D); row i of the anchors belongs to sample i.
        temperature: tau.
        include_self: keep j = i in the denominator, as CreamFL's code does.
        tile: rows at a time; about 8 tile^2 numbers are held besides the inputs' size. None: see `rows_at_a_time`.
        cosine: False for plain dot products, as in CreamFL.

    Returns:
        (N,), in the type of `z`. A row of `z` that is not finite gives NaN for that row alone.

    Raises:
        ValueError: shapes disagree.
        BadInput: a temperature or tile that is not positive.
    """
    tile = rows_at_a_time(z) if tile is None else tile
    _check_contrast(z, anchors, temperature, tile)
    n, width = len(z), tile * _COLUMN_TILES
    scores = z.new_zeros(n)
    if n <= 1:
        return scores
    buffer = z.new_empty(min(tile, n) * min(width, n))
    peak = z.new_full((n, 1), -torch.inf)  # running maximum
    total = z.new_zeros((n, 1))  # running sum of exp(score - peak)
    for j in range(0, n, width):  # outermost what costs most to prepare: no unit vectors are kept
        columns = unit(anchors[j : j + width]) if cosine else anchors[j : j + width]  # (W, D)
        for i in range(0, n, tile):
            rows = (unit(z[i : i + tile]) if cosine else z[i : i + tile]) / temperature  # (R, D)
            block = buffer[: len(rows) * len(columns)].view(len(rows), -1)
            torch.mm(rows, columns.T, out=block)
            if j <= i < j + width:  # a multiple of `tile`: the samples' own anchors are in this block or not
                scores[i : i + tile] = (rows * columns[i - j : i - j + tile]).sum(1)
                if not include_self:
                    block.diagonal(i - j).fill_(-torch.inf)  # j = i leaves exactly, not by subtraction
            _add_exp(block, peak[i : i + tile], total[i : i + tile])
    scores -= (peak + total.log())[:, 0]
    return scores


def _check_contrast(z: Tensor, anchors: Tensor, temperature: float, tile: int) -> None:
    if z.shape != anchors.shape or z.ndim != 2:
        raise ValueError(f"representations {tuple(z.shape)} and anchors {tuple(anchors.shape)} must both be (N, D)")
    if not temperature > 0 or tile < 1:
        raise BadInput(f"contrast needs temperature > 0 and tile >= 1, got {temperature} and {tile}")


def _add_exp(block: Tensor, peak: Tensor, total: Tensor) -> None:
    """Take a block of scores (R, W), which is overwritten, into running `peak` and `total` (R, 1), in place."""
    higher = torch.maximum(peak, block.amax(1, keepdim=True))
    total *= (peak - higher).exp_()
    block.sub_(higher)
    if block.device.type == "cpu":  # elsewhere denormals cost nothing, and the pass over memory does
        block.clamp_(min=_NEGLIGIBLE)
    total += block.exp_().sum(1, keepdim=True)
    peak.copy_(higher)


def rows_at_a_time(z: Tensor) -> int:
    """Rows of scores that are computed at once where nobody asks for another number: 512 on the CPU, 4096 elsewhere."""
    return _CPU_TILE if z.device.type == "cpu" else _DEVICE_TILE


def client_weights(scores: Tensor, present: Tensor | None = None) -> Tensor:
    """Scores normalised over clients: softmax with the maximum subtracted (FedMMKT, eqs. 9, 29).

    Args:
        scores: (K, N).
        present: bool (K, N); an absent client weighs 0, and where all are absent all weigh 0.

    Returns:
        (K, N), not negative, each column sums to 1 (or 0 where nobody is present).
    """
    if present is None:
        return scores.softmax(0)
    weights = scores.masked_fill(~present, -torch.inf).softmax(0)
    return weights.masked_fill(~present, 0.0)  # where all are absent, softmax of -inf is NaN


def contrast_weights(
    representations: Tensor,
    anchors: Tensor,
    temperature: float = 1.0,
    include_self: bool = False,
    present: Tensor | None = None,
    *,
    tile: int | None = None,
    cosine: bool = True,
) -> Tensor:
    """Each client's weight on each sample (FedMMKT, eq. 9 after eq. 8).

    Args:
        representations: (K, N, D); rows of absent clients may hold anything.
        anchors: (K, N, D), or (N, D) where all clients share them.
        present: bool (K, N).
        temperature: tau of `contrast_scores`, as `include_self`, `tile` and `cosine` are its.

    Returns:
        (K, N), see `client_weights`.

    Raises:
        ValueError: shapes disagree.
    """
    per_client = anchors if anchors.ndim == 3 else [anchors] * len(representations)
    scores = stacked_scores(representations, per_client, temperature, include_self, tile, cosine)
    return client_weights(scores, present)


def stacked_scores(
    representations: Tensor,
    anchors: Sequence[Tensor] | Tensor,
    temperature: float = 1.0,
    include_self: bool = False,
    tile: int | None = None,
    cosine: bool = True,
) -> Tensor:
    """`contrast_scores` of every client: (K, N, D) and K anchors (N, D) -> (K, N)."""
    if representations.ndim != 3 or len(anchors) != len(representations):
        raise ValueError(
            f"representations {tuple(representations.shape)} must be (K, N, D) with K = {len(anchors)} anchors"
        )
    scores = representations.new_zeros(representations.shape[:2])
    for k, (z, a) in enumerate(zip(representations, anchors)):
        scores[k] = contrast_scores(z, a, temperature, include_self, tile, cosine)
    return scores


def symmetric_infonce(a: Tensor, b: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrastive loss between paired rows (N, D), both ways, on cosines, in nats: a scalar with gradient.

    Raises:
        BadInput: a temperature that is not positive.
    """
    if not temperature > 0:
        raise BadInput(f"the contrast temperature is {temperature}; it must be above 0")
    logits = unit(a) @ unit(b).T / temperature  # (N, N)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
