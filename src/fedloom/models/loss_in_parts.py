"""A mean over samples whose parts, and their gradients, are computed side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.models.side_by_side import side_by_side

SMALLEST = 8  # samples of a part; fewer take as long as so many


def mean_in_parts(
    loss: Callable[..., Tensor], rows: Sequence[Tensor], weights: Sequence[nn.Parameter], parts: int = 2
) -> Tensor:
    """The mean loss of B samples, a scalar with gradients for `weights` and `rows`.

    The parts are the same whatever the machine, and so are all bits: a machine of one processor takes a few per cent
    longer than for the whole.

    Args:
        loss: rows of some samples -> their mean loss; nothing random in it.
        rows: of each sample, (B, ...).
        weights: what `loss` depends on besides.
    """
    n = len(rows[0])
    if not torch.is_grad_enabled() or n < parts * SMALLEST:
        return loss(*rows)
    result: Tensor = _InParts.apply(loss, parts, len(rows), *rows, *weights)  # type: ignore[no-untyped-call]
    return result


class _InParts(torch.autograd.Function):
    """Gradients are computed with the loss, so that each part's graph belongs to one thread."""

    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], parts: int, count: int, *tensors: Tensor) -> Tensor:
        rows, weights = tensors[:count], tensors[count:]
        spans = torch.arange(len(rows[0])).tensor_split(parts)

        def one(span: Tensor) -> tuple[Tensor, list[Tensor | None], list[Tensor | None]]:
            with torch.enable_grad():
                first, end = int(span[0]), int(span[-1]) + 1
                own = [row[first:end].detach().requires_grad_(row.requires_grad) for row in rows]
                value = loss(*own) * (len(span) / len(rows[0]))
                wanted = [t for t in (*own, *weights) if t.requires_grad]
                found = iter(torch.autograd.grad(value, wanted, allow_unused=True))
                gradients = [next(found) if t.requires_grad else None for t in (*own, *weights)]
            return value.detach(), gradients[:count], gradients[count:]

        values, of_rows, of_weights = zip(*side_by_side(one, spans))
        ctx.gradients = [*map(_joined, zip(*of_rows)), *map(_summed, zip(*of_weights))]
        return torch.stack(values).sum()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Any, ...]:
        return (None, None, None, *(None if g is None else g * outer for g in ctx.gradients))


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Gradients of rows, part after part."""
    known = [p for p in parts if p is not None]
    return torch.cat(known) if known else None


def _summed(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [p for p in parts if p is not None]
    for other in known[1:]:
        known[0].add_(other)
    return known[0] if known else None
