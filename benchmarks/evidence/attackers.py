"""FedMMKT where one client of eight, image-0, answers something else than what it sees; else it is an honest client.

Arms of studies name these methods as `method: evidence.attackers:NOISE`; `settings.variant: l` makes them l-FedMMKT.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedloom.methods.fedmmkt import METHOD, FedMMKTClient

ATTACKER = "image-0"
SCALE = 10.0  # of noise as logits: about as sure as a client that has overfitted


class NoiseClient(FedMMKTClient):
    """Representations and logits are noise, and so what is said of them: a label at random, and sure of it."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """C1, or C1 of noise."""
        if self.context.name == ATTACKER:
            rng = self.context.rng("noise", message.view_seed)  # another one each round
            z, logits = (torch.from_numpy(rng.standard_normal(x.shape)).float() for x in (z, logits))
            logits = SCALE * logits
        return super().answer(message, z, logits)


class FlippingClient(FedMMKTClient):
    """Each label is the next class's, as sure as it is of the right one."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """C1, of logits that are moved on by a class."""
        return super().answer(message, z, logits.roll(1, 1) if self.context.name == ATTACKER else logits)


NOISE = replace(METHOD, name="fedmmkt-noise", client=NoiseClient)
FLIP = replace(METHOD, name="fedmmkt-flip", client=FlippingClient)
