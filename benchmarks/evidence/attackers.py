"""FedMMKT where one client of eight, image-0, answers something else than what it sees; else it is an honest client.

The arms of studies name these methods as `method: evidence.attackers:NOISE`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fedloom.methods.fedmmkt import METHOD, FedMMKTClient, FedMMKTOutputs

ATTACKER = "image-0"


class NoiseClient(FedMMKTClient):
    """Standard normal representations, labels and entropies drawn evenly."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """C1, or noise of its shapes."""
        told = super().answer(message, z, logits)
        if self.context.name != ATTACKER:
            return told
        assert isinstance(told, FedMMKTOutputs)
        rng, classes = self.context.rng("noise", message.view_seed), logits.shape[1]
        return replace(
            told,
            representations=rng.standard_normal(z.shape).astype(np.float32),
            labels=rng.integers(0, classes, len(z)).astype(np.int32),
            entropies=rng.uniform(0, np.log(classes), len(z)).astype(np.float32),
        )


class FlippingClient(FedMMKTClient):
    """Each label is the next class's, as sure as it is of the right one."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """C1, with another label."""
        told = super().answer(message, z, logits)
        if self.context.name != ATTACKER:
            return told
        return replace(told, labels=np.where(told.labels < 0, -1, (told.labels + 1) % logits.shape[1]).astype(np.int32))


NOISE = replace(METHOD, name="fedmmkt-noise", client=NoiseClient)
FLIP = replace(METHOD, name="fedmmkt-flip", client=FlippingClient)
