"""Messages of raw bytes, and a client half of numpy alone that does with them what the bare app's client does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from fedloom.federation import ClientSpec, Tensor, WireContract


@dataclass(frozen=True)
class Blob:
    """Bytes."""

    data: Annotated[NDArray[Any], Tensor("uint8", ("N",))]


class Toy:
    """No state: what is measured is the engine."""

    def down(self, message: Blob, round: int) -> Blob:
        return Blob(message.data[:1].copy())

    def echo(self, message: Blob, round: int) -> Blob:
        return Blob(np.invert(message.data))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {}, {}

    def load_state(self, tensors: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        pass


def make(name: str) -> Toy:
    return Toy()


CONTRACT = WireContract({"down": (Blob, Blob), "echo": (Blob, Blob)})


def specs(count: int) -> list[ClientSpec]:
    """Recipes of so many clients."""
    return [ClientSpec(f"toy-{i}", "image", "fedloom_carrier.toys:make") for i in range(count)]
