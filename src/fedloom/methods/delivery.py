"""A model that is sent down again and again: whole once, then only what changed, in half precision.

What receivers hold is known to the sender to the bit, so that rounding does not add up: what half precision or a share
left out of one change is in the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.functional.norms import unit
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.state import Arrays, Kept, Stateful
from fedloom.models.fit import part_of
from fedloom.tasks import ClientTask, Modality

Sending = Literal["whole", "changes"]
AT = "@"  # name + AT: the places of the values called name, in a tensor laid flat


@dataclass(frozen=True)
class Delta:
    """Arrays that lead from version `base` (0: from nothing) to `version`."""

    arrays: Arrays
    base: int
    version: int


class Delivery(Stateful):
    """The sender's side. `held` is what everybody has who has `version`.

    Args:
        sending: `whole` sends all weights every time, in single precision.
        share: of each tensor's weights, those that moved furthest, that a change holds.
    """

    held: Kept[Arrays]
    version: Kept[int]

    def __init__(self, sending: Sending = "changes", share: float = 1.0) -> None:
        self.sending, self.share = sending, share
        self.held = {}
        self.change: Arrays = {}
        self.version = 0

    def advance(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """A new version, as near to `weights` (float32) as its change allows."""
        self.version += 1
        if self.sending == "whole":
            self.held, self.change = dict(weights), {}
        elif not self.held:
            self.held = {k: v.astype(np.float16).astype(np.float32) for k, v in weights.items()}
        else:
            self.change = {}
            for name, value in weights.items():
                self.change |= _change(name, value - self.held[name], self.share)
            self.held = applied(self.held, self.change)

    def parcel(self, has: int) -> Delta:
        """What leads a receiver that has version `has` (0: none) to the newest."""
        if self.sending == "changes" and self.version > 1 and has == self.version - 1:
            return Delta(self.change, has, self.version)
        small = self.sending == "changes" and self.version == 1
        return Delta({k: v.astype(np.float16) for k, v in self.held.items()} if small else self.held, 0, self.version)

    def restored(self) -> None:
        """A change is sent before the next checkpoint, so it is not kept."""
        self.change = {}


def _change(name: str, difference: NDArray[Any], share: float) -> Arrays:
    """What is sent of one tensor's change: nothing where half precision leaves nothing of it."""
    small = np.asarray(difference, np.float16)  # NumPy makes a difference of single numbers no array
    if not small.any():
        return {}
    count = math.ceil(share * small.size)
    # A place costs twice what a value does.
    if 3 * count >= small.size:
        return {name: small}
    flat = small.ravel()
    places = np.sort(np.argpartition(-np.abs(flat), count - 1)[:count]).astype(np.int32)
    return {name: flat[places], name + AT: places}


def applied(held: Mapping[str, NDArray[Any]], change: Mapping[str, NDArray[Any]]) -> Arrays:
    """`held` with a change added. Raises ValueError for a change of something else."""
    new = dict(held)
    for name, values in change.items():
        if name.endswith(AT):
            continue
        places = change.get(name + AT)
        if name not in held or (places is None and held[name].shape != values.shape):
            raise ValueError(f"a change of {name} {values.shape}, which is not what is held")
        if places is None:
            new[name] = np.asarray(held[name] + values.astype(np.float32))
        else:
            moved = held[name].copy()
            moved.reshape(-1)[places] += values.astype(np.float32)
            new[name] = moved
    return new


def received(held: Mapping[str, NDArray[Any]], version: int, parcel: Delta) -> Arrays:
    """What a receiver that holds `held`, of `version`, holds after a parcel. Raises ValueError for one not for it."""
    if parcel.base == 0:
        return {k: v.astype(np.float32) for k, v in parcel.arrays.items()}
    if parcel.base != version:
        raise ValueError(f"sent a change of version {parcel.base}, and holds version {version}")
    return applied(held, parcel.arrays)


class HeldEncoders(Stateful):
    """The receiver's side at a client: the server's encoders, and what they make of the client's own samples."""

    arrays: Kept[Arrays]  # as `weights_of`, names begin with the modality
    version: Kept[int]

    def __init__(self, context: ClientContext) -> None:
        self.context = context
        self.arrays, self.version = {}, 0
        self.models: dict[Modality, ClientContext] = {}
        self.prepared: dict[tuple[Modality, str], Inputs] = {}  # own samples as the server's models read them

    def take(self, parcel: Delta) -> None:
        """The encoders of this round. ValueError for a change that is not for what is held."""
        self.arrays, self.version = received(self.arrays, self.version, parcel), parcel.version
        for m, model in self.models.items():
            put_into(model.model, part_of(self.arrays, f"{m}."))

    def views(self, part: str) -> dict[Modality, Tensor]:
        """Unit representations of the client's own samples of that part, by modality; nothing before encoders came."""
        if not self.arrays:
            return {}
        samples, found = self.context.samples[part], {}
        for m in ClientTask(self.context.modality).spec.reads:
            model = self._model(m)
            key = m, f"{part} of {len(samples)}"  # there may be more of them in a later round
            if key not in self.prepared:
                own = getattr(samples, "images" if m == Modality.IMAGE else "captions", samples)
                self.prepared[key] = model.stored(own)
            found[m] = unit(model.encode(self.prepared[key]))
        return found

    def _model(self, m: Modality) -> ClientContext:
        """The server's encoder as it is held here. ValueError where this client does not know its shape."""
        if m not in self.models:
            if self.context.server is None:
                raise ValueError(f"{self.context.name} does not know the server's {m} model")
            self.models[m] = self.context.server(ClientTask(m))
            put_into(self.models[m].model, part_of(self.arrays, f"{m}."))
        return self.models[m]

    def restored(self) -> None:
        """Models are filled anew."""
        self.models = {}


def weights_of(model: nn.Module) -> Arrays:
    """A model's weights and statistics (float32) without its head: what encodes."""
    state = model.state_dict()
    return {
        k: v.detach().cpu().numpy().copy()
        for k, v in state.items()
        if v.dtype == torch.float32 and not k.startswith("head.")
    }


def put_into(model: nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    """Put `weights_of` back. Raises ValueError for weights of another model."""
    own = {k: v.shape for k, v in weights_of(model).items()}
    if own != {k: v.shape for k, v in weights.items()}:
        raise ValueError("sent the weights of another architecture than the server's as it is known here")
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()}, strict=False)
