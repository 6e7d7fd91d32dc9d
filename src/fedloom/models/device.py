"""Where a model lives, in which precision it computes, and how a pipeline of diffusers saves memory there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from fedloom.config.base import Precision
from fedloom.errors import BadInput, first_line

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CPU = torch.device("cpu")
CPU_BATCH = 32  # samples that a frozen network looks at at a time


def device_of(name: str) -> torch.device:
    """The device, tried. BadInput where this machine has none of that name."""
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadInput(f"device {name!r}: {first_line(error)}") from error


def place_of(module: nn.Module) -> torch.device:
    """The device of a module's first weight; the CPU for one without any."""
    first = next(module.parameters(), None)
    return CPU if first is None else first.device


def parts_of(samples: int, place: torch.device, batch: int) -> list[slice]:
    """Samples `batch` at a time; on the CPU fewer, whose activations its caches hold."""
    n = min(batch, CPU_BATCH) if place == CPU else batch
    return [slice(i, i + n) for i in range(0, samples, n)]


def arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The context in which a forward pass on that device computes: autocast, or nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])


def kind_of(device: torch.device) -> str:
    """What the last bits of a computation depend on: the device's type, and which GPU it is."""
    return f"cuda, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def settle(pipe: Any, device: torch.device, options: Any) -> None:
    """Put a pipeline of diffusers on the device, with as little memory as its options say.

    Args:
        options: LatentOptions or GlideOptions. With `offload` parts wait on the CPU and come to the device in turn.

    Raises:
        BadInput: there is nothing to wait for, or no accelerate to wait with.
    """
    pipe.set_progress_bar_config(disable=True)
    if options.attention_slicing:
        pipe.enable_attention_slicing()
    if getattr(options, "vae_slicing", False):
        pipe.vae.enable_slicing()
    if getattr(options, "vae_tiling", False):
        pipe.vae.enable_tiling()
    if not options.offload:
        pipe.to(device)
        return
    if device.type == "cpu":
        raise BadInput("offload = True: parts wait on the CPU for an accelerator, server.device is 'cpu'")
    try:
        pipe.enable_model_cpu_offload(device=device)
    except ImportError as error:
        raise BadInput("offload = True needs a package: pip install accelerate") from error
