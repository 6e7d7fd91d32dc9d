"""What one sample costs a model: FLOP forwards and backwards, and what is kept in between. Counted, not timed.

The model is built on torch's meta device, where a tensor has a shape and nothing else, and run on it: every product of
matrices is counted as it is called, and every tensor that autograd keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


class Load(NamedTuple):
    """Of one sample.

    forward: FLOP.  training: FLOP forwards and backwards.  kept: bytes that wait for the backward pass, in
    fp32.
    """

    forward: float = 0.0
    training: float = 0.0
    kept: float = 0.0

    def plus(self, other: Load, times: float = 1.0) -> Load:
        """Both, the other one `times` times."""
        return Load(*(own + times * more for own, more in zip(self, other)))


NO_LOAD = Load()


class _Attention(torch.autograd.Function):
    """Attention as a fused kernel does it: it keeps its inputs and its output, but no matrix of scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, flop: list[float]) -> Tensor:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, out)
        pairs = math.prod(query.shape[:-1]) * key.shape[-2]
        ctx.flop, ctx.work = flop, 2.0 * pairs * (query.shape[-1] + value.shape[-1])
        flop[0] += ctx.work
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, _ = ctx.saved_tensors
        ctx.flop[0] += 2.5 * ctx.work  # two products for each of the two, and the scores once more
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


class _Fused(TorchFunctionMode):
    """Takes every attention for the one above; `flop[0]` sums what it costs."""

    def __init__(self) -> None:
        super().__init__()
        self.flop = [0.0]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args)) | (kwargs or {})
            return _Attention.apply(named["query"], named["key"], named["value"], self.flop)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def measured(module: nn.Module, run: Callable[[int], Tensor], train: bool = True) -> Load:
    """The load of one of the samples that `run` shows the module.

    Args:
        module: its weights do not count as kept.
        run: number of samples -> output.
        train: whether it is ever trained.
    """
    module.train(train)
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    one, two = (_once(run, weights, n, train) for n in (2, 3))  # batch norm wants two
    # What grows with the samples: neither what is the same for all nor a batch's smallest size counts.
    return Load(*(max(b - a, 0.0) for a, b in zip(one, two)))


def _once(run: Callable[[int], Tensor], weights: set[int], samples: int, train: bool) -> Load:
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        place = x.untyped_storage()._cdata
        if place not in weights:
            kept[place] = x
        return x

    counter, fused = FlopCounterMode(display=False), _Fused()
    with counter, fused, saved_tensors_hooks(keep, lambda x: x), torch.set_grad_enabled(train):
        out = run(samples)
        forward = counter.get_total_flops() + fused.flop[0]
        if train and out.requires_grad:
            out.sum().backward()  # type: ignore[no-untyped-call]
        whole = counter.get_total_flops() + fused.flop[0]
    return Load(forward, whole, sum(x.untyped_storage().nbytes() for x in kept.values()))


def count(module: nn.Module, trained: bool = False) -> int:
    """Parameters of a module, or those of them that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)
