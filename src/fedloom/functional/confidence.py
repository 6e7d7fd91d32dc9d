"""How sure a client is of its answer: entropy and the weight it earns (FedMMKT, eq. 3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from fedloom.errors import BadInput, unknown

Confidence = Literal["inv", "exp", "lin"]


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits).

    Args:
        logits: (..., C), of any scale.

    Returns:
        (...), in [0, log C]; NaN where any logit of the row is not finite, so that the caller can count it absent.
    """
    log_p = logits.log_softmax(-1)
    # Logits further apart than the type's range give log p = -inf, and 0 * inf would be NaN where the limit is 0.
    log_p = log_p.clamp(min=torch.finfo(log_p.dtype).min)
    nats = -(log_p.exp() * log_p).sum(-1)
    return nats.clamp(min=0.0).masked_fill(~torch.isfinite(logits).all(-1), math.nan)


def confidence(entropy: Tensor, mode: Confidence = "inv", floor: float = 0.01, classes: int | None = None) -> Tensor:
    """A vote's weight from its entropy: the less entropy, the more weight (FedMMKT, eq. 3).

    The paper does not give the function; `inv` follows FedGEMS.

    Args:
        entropy: (...), nats. Below zero counts as zero, NaN (no finite answer) weighs 0.
        mode: `inv` 1 / max(H, floor), `exp` e^-H, `lin` 1 - H / log C.
        floor: H_min in nats, for `inv`: without it one client with zero entropy would outvote all.
        classes: C, needed by `lin`.

    Returns:
        Weights (...), never negative, finite.

    Raises:
        BadInput: an unknown mode, a floor that is not positive, or `lin` without `classes`.
    """
    if not floor > 0:
        raise BadInput(f"the entropy floor is {floor}; it must be above 0 nats")
    nats = entropy.clamp(min=0.0)
    if mode == "inv":
        weights = 1.0 / nats.clamp(min=floor)
    elif mode == "exp":
        weights = (-nats).exp()
    elif mode == "lin":
        if classes is None or classes < 1:
            raise BadInput(f"confidence 'lin' needs the number of classes, got {classes}")
        # One class: log C = 0, nobody is unsure.
        weights = (1.0 - nats / math.log(classes)).clamp(min=0.0) if classes > 1 else torch.ones_like(nats)
    else:
        raise unknown("confidence", mode, ("inv", "exp", "lin"))
    return weights.masked_fill(torch.isnan(entropy), 0.0)
