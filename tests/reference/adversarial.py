"""FedAFD's adversarial losses, from probabilities as printed: fine for small logits only."""

from __future__ import annotations

import math

from reference.vectors import Vector


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _probabilities(logits: Vector, twice: bool) -> Vector:
    return [sigmoid(sigmoid(x)) if twice else sigmoid(x) for x in logits]


def discriminator(from_global: Vector, from_local: Vector, twice: bool = False) -> float:
    """-(log D(global) + log(1 - D(local))), each a mean."""
    right, wrong = _probabilities(from_global, twice), _probabilities(from_local, twice)
    return -math.fsum(map(math.log, right)) / len(right) - math.fsum(math.log(1 - p) for p in wrong) / len(wrong)


def encoder(from_local: Vector, mode: str, twice: bool = False) -> float:
    p = _probabilities(from_local, twice)
    each = [-math.log(x) if mode == "nonsat" else math.log(1 - x) for x in p]
    return math.fsum(each) / len(each)


def reversal(progress: float) -> float:
    return 2 / (1 + math.exp(-10 * progress)) - 1
