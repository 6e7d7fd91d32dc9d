"""Adversarial alignment of a client's representations with the server's (FedAFD's BAA, arXiv 2603.04890).

A discriminator says how sure it is that a representation is global (the server's) and not local (the client's): one
logit l a sample, D = sigmoid(l). It compares distributions, so neither the order of the rows nor the sizes of the two
batches need to agree. All losses are in nats and hold for logits of any finite size.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import unknown

Adversary = Literal["nonsat", "minimax"]


def discriminator_loss(
    global_logits: Tensor,
    local_logits: Tensor,
    mode: Adversary = "nonsat",
    legacy_double_sigmoid: bool = False,
) -> Tensor:
    """What a discriminator minimises: BCE(D(global), 1) + BCE(D(local), 0) (FedAFD, bi-level adversarial alignment).

    The same in both modes: minus the printed log D(global) + log(1 - D(local)), which discriminators maximise. It is
    2 log 2 where the discriminator knows nothing, and tends to 0 where it knows everything.

    Args:
        global_logits: (B,) or any shape, of the server's representations.
        local_logits: any shape, of the client's, detached by the caller (or behind `reverse_gradient`).
        mode: `nonsat` or `minimax`.
        legacy_double_sigmoid: the authors' code puts the logits through two sigmoids; only to match its numbers. The
            loss then lies between 1.006 and 2.006, 1.448 at first.

    Returns:
        Scalar, the sum of the two batches' means; an empty batch adds 0.

    Raises:
        BadInput: an unknown mode.
    """
    _known(mode)
    right = _squashed(global_logits, legacy_double_sigmoid)
    wrong = _squashed(local_logits, legacy_double_sigmoid)
    return _mean(-F.logsigmoid(right)) + _mean(-F.logsigmoid(-wrong))


def encoder_loss(local_logits: Tensor, mode: Adversary = "nonsat", legacy_double_sigmoid: bool = False) -> Tensor:
    """What the client's encoder minimises, the discriminator being held (FedAFD, bi-level adversarial alignment).

    - `nonsat`: BCE(D(local), 1) = -log D(local), as the authors' code has it; strongest where the encoder loses.
    - `minimax`: log(1 - D(local)), the printed formula less the term without the encoder; weakest there.

    Args:
        local_logits: (B,) or any shape, of the client's representations, with gradient.
        mode: `nonsat` or `minimax`.
        legacy_double_sigmoid: see `discriminator_loss`.

    Returns:
        Scalar, mean over the batch, 0 for an empty one. `minimax` is never above 0.

    Raises:
        BadInput: an unknown mode.
    """
    _known(mode)
    logits = _squashed(local_logits, legacy_double_sigmoid)
    return _mean(-F.logsigmoid(logits) if mode == "nonsat" else F.logsigmoid(-logits))


def discriminator_accuracy(global_logits: Tensor, local_logits: Tensor) -> float:
    """Share that the discriminator gets right, both batches weighing the same: 0.5 is a guess, 1 a collapse.

    Args:
        global_logits: any shape, right above 0. Not empty.
        local_logits: any shape, right at 0 and below. Not empty.

    Raises:
        ValueError: an empty batch.
    """
    if not global_logits.numel() or not local_logits.numel():
        raise ValueError(f"accuracy of {global_logits.numel()} global and {local_logits.numel()} local logits")
    return float(((global_logits > 0).double().mean() + (local_logits <= 0).double().mean()) / 2)


# ----------------------------------------------------------------------------------------------- gradient reversal


def reverse_gradient(x: Tensor, coefficient: float = 1.0) -> Tensor:
    """`x` itself, through which gradient comes back times -`coefficient` (Ganin and Lempitsky, arXiv 1409.7495).

    The adversary in one backward pass: with local logits of `reverse_gradient(z)`, the discriminator descends
    `discriminator_loss` and the encoder ascends it, which is `encoder_loss(..., "minimax")` times `coefficient`.

    Args:
        x: any shape.
        coefficient: lambda; not negative, or the adversary becomes an ally.

    Raises:
        ValueError: a coefficient that is negative or not finite.
    """
    if not 0 <= coefficient < math.inf:
        raise ValueError(f"the reversal coefficient is {coefficient}; it must be 0 or more, and finite")
    reversed_: Tensor = _Reverse.apply(x, coefficient)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_coefficient(progress: float) -> float:
    """lambda = 2 / (1 + e^(-10 p)) - 1, from 0 at first to 0.9999 (Ganin and Lempitsky, arXiv 1409.7495).

    Args:
        progress: p, the share of the training that is done.

    Raises:
        ValueError: p outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"the progress is {progress}; it must lie between 0 and 1")
    return math.tanh(5 * progress)  # the same number


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return -ctx.coefficient * gradients[0], None


# ---------------------------------------------------------------------------------------------------------- pieces


def _known(mode: str) -> None:
    if mode not in ("nonsat", "minimax"):
        raise unknown("adversary", mode, ("nonsat", "minimax"))


def _squashed(logits: Tensor, legacy_double_sigmoid: bool) -> Tensor:
    return logits.sigmoid() if legacy_double_sigmoid else logits


def _mean(each: Tensor) -> Tensor:
    return each.mean() if each.numel() else each.sum()
