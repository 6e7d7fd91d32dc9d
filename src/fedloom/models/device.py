"""Where a model lives, and in which precision it computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from fedloom.errors import BadInput
from fedloom.models.frozen import Precision

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """The device, tried. BadInput where this machine has none of that name."""
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"device {name!r}: {said}") from error


def place_of(module: nn.Module) -> torch.device:
    """The device of a module's first weight; the CPU for one without any."""
    first = next(module.parameters(), None)
    return CPU if first is None else first.device


def arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context in which a forward pass on that device computes: autocast, or nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])
