"""Inter-modal cross-attention, in the readings that one vector a sample leaves open (FedMMKT, eqs. 6-7).

A client's own representation is the query, the other modality's mean is context. With one key a query the softmax is
always 1: attention returns the context whatever the query, and only the residual keeps clients apart. That exact value
is mode `paired`; `batch` and `mha` let a sample attend to the other samples, `chunk` to pieces of its own context.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedloom.errors import BadInput, FedloomError, unknown
from fedloom.functional.contrast import symmetric_infonce
from fedloom.functional.norms import layer_norm, unit

__all__ = [
    "Attention",
    "LearnedCrossAttention",
    "chunk_heads",
    "cross_attention",
    "layer_norm",
    "train_cross_attention",
    "unit",
]

Attention = Literal["paired", "batch", "chunk", "mha"]


def cross_attention(
    queries: Tensor,
    context: Tensor,
    mode: Attention = "paired",
    temperature: float = 0.1,
    heads: int = 12,
) -> Tensor:
    """Representations enhanced by the other modality's mean, r-hat (FedMMKT, eqs. 6-7). u is `unit`, LN `layer_norm`.

    - `paired`: LN(u(r) + u(T)); no parameters, pairs stay pairs.
    - `batch`: LN(u(r) + sum_j A_ij u(T_j)), A = softmax_j(<u(r_i), u(T_j)> / temperature) over all M samples.
    - `chunk`: r and T are cut in pieces; pieces of r attend to the pieces of their own T, scaled by 1 / sqrt(piece).
      Before the dot product both are brought to unit component variance, which that scale presumes (our choice).

    Args:
        queries: (K, M, D), or (M, D) for one client.
        context: (M, D); a zero row stands for a sample that nobody of the other modality answered.
        mode: not `mha`, which has weights: see `LearnedCrossAttention`.
        temperature: tau_a, of `batch`.
        heads: most pieces that `chunk` cuts; it takes the largest number up to this that divides D.

    Returns:
        The shape of `queries`.

    Raises:
        BadInput: an unknown mode, a temperature that is not positive, a D that cannot be cut, or mode `mha`.
        ValueError: shapes disagree.
    """
    _agree(queries, context)
    q, c = unit(queries), unit(context)
    if mode == "paired":
        return layer_norm(q + c)
    if mode == "batch":
        if not temperature > 0:
            raise BadInput(f"the attention temperature is {temperature}; it must be above 0")
        # Four axes, or torch builds the M x M matrix; with them it goes tile by tile.
        rows = q.reshape(1, -1, *q.shape[-2:])  # (1, K, M, D)
        keys = c.expand_as(rows)
        heard = F.scaled_dot_product_attention(rows, keys, keys, scale=1.0 / temperature)
        return layer_norm(q + heard.view_as(q))
    if mode == "chunk":
        pieces = chunk_heads(queries.shape[-1], heads)
        scale = math.sqrt(queries.shape[-1])
        q, c = (scale * z.reshape(*z.shape[:-1], pieces, -1) for z in (q, c))  # (..., M, h, D/h), (M, h, D/h)
        return layer_norm((q + F.scaled_dot_product_attention(q, c.expand_as(q), c.expand_as(q))).flatten(-2))
    if mode == "mha":
        raise BadInput("attention 'mha' has learned weights; make a LearnedCrossAttention and call that")
    raise unknown("attention", mode, ("paired", "batch", "chunk", "mha"))


def chunk_heads(width: int, heads: int) -> int:
    """How many pieces of equal width D is cut into: the largest number up to `heads` that divides it.

    Raises:
        BadInput: `heads` is below 1, or above 1 while D has no such divisor but 1 (one piece would be mode `paired`).
    """
    pieces = max((h for h in range(1, heads + 1) if width % h == 0), default=0)
    if pieces < min(heads, 2) or heads < 1:
        raise BadInput(f"a representation of width {width} cannot be cut in 2 to {heads} equal pieces")
    return pieces


class LearnedCrossAttention(nn.Module):
    """Mode `mha`: multi-head attention over the samples of a round, residual, layer norm; an extension of the paper.

    All four maps start as the identity, so the untrained module is parameter-free attention, head by head. One module
    serves both directions (eqs. 6 and 7).

    Args:
        width: D.
        heads: must divide D.

    Raises:
        BadInput: heads does not divide D.
    """

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise BadInput(f"{heads} attention heads do not divide the representation width {width}")
        self.width, self.heads = width, heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.eye_(linear.weight)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """queries (K, M, D) or (M, D), context (M, D): the shape of `queries`. ValueError if shapes disagree."""
        _agree(queries, context)
        scale = math.sqrt(self.width)  # unit component variance, as in `chunk`
        x, c = scale * unit(queries), scale * unit(context)
        q, k, v = (self._split(f(z)) for f, z in ((self.query, x), (self.key, c), (self.value, c)))
        k, v = k.expand(*q.shape[:-2], *k.shape[-2:]), v.expand(*q.shape[:-2], *v.shape[-2:])
        heard = F.scaled_dot_product_attention(q, k, v)  # (..., h, M, D/h)
        return layer_norm(x + self.out(heard.transpose(-3, -2).flatten(-2)))

    def _split(self, z: Tensor) -> Tensor:
        """(..., M, D) -> (..., h, M, D/h)."""
        return z.reshape(*z.shape[:-1], self.heads, -1).transpose(-3, -2)


def train_cross_attention(
    module: LearnedCrossAttention,
    queries: Tensor,
    context: Tensor,
    present: Tensor | None = None,
    *,
    temperature: float = 0.07,
    rate: float = 1e-4,
    batch: int = 256,
    optimizer: torch.optim.Optimizer | None = None,
) -> float | None:
    """One pass of symmetric InfoNCE between the clients' enhanced representations and the context.

    One step per client and block of up to `batch` consecutive samples; clients and samples go in the order given.

    Args:
        module: trained in place.
        queries: (K, M, D), representations of the image clients.
        context: (M, D), mean of the text clients.
        present: bool (K, M); absent clients' samples are left out.
        temperature: tau of InfoNCE.
        rate: Adam's learning rate, unless `optimizer` is given.
        batch: most samples a step.
        optimizer: over the module's parameters, to keep its moments from round to round.

    Returns:
        The mean loss, or None when no block held the two samples that a contrast needs.

    Raises:
        ValueError: shapes disagree.
        BadInput: a temperature that is not positive, or a batch below 2.
        FedloomError: the loss is not finite; names the client.
    """
    _agree(queries, context)
    if batch < 2:
        raise BadInput(f"the batch of contrastive training is {batch}; it needs at least 2 samples")
    optimizer = optimizer or torch.optim.Adam(module.parameters(), lr=rate)
    losses = []
    for k, rows in _blocks(queries, present, batch):
        own, c = queries.detach()[k, rows], context.detach()[rows]
        loss = symmetric_infonce(module(own, c), c, temperature)
        if not torch.isfinite(loss):
            raise FedloomError(f"cross-attention: the loss is {loss.item()} on client {k}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses) if losses else None


def _blocks(queries: Tensor, present: Tensor | None, batch: int) -> Iterator[tuple[int, Tensor]]:
    """Each client's samples, up to `batch` at a time and two at least: the client, and indices (B,)."""
    for k, own in enumerate(queries):
        index = torch.arange(len(own), device=own.device) if present is None else present[k].nonzero()[:, 0]
        yield from ((k, rows) for rows in torch.split(index, batch) if len(rows) > 1)


def _agree(queries: Tensor, context: Tensor) -> None:
    if queries.ndim not in (2, 3) or queries.shape[-2:] != context.shape:
        raise ValueError(
            f"queries {tuple(queries.shape)} and context {tuple(context.shape)} must be (K, M, D) and (M, D)"
        )
