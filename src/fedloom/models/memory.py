"""Loaded weights in memory of their own, so that they compute the same bits as weights that were made here."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

_ALIGNED = 64  # bytes; what torch's own memory is aligned to
Loaded = TypeVar("Loaded")


def in_own_memory(loaded: Loaded) -> Loaded:
    """A module, or a pipeline of diffusers, whose weights on the CPU begin where torch lets its own tensors begin.

    What a library loads from safetensors may be a view of the file, which begins at any multiple of 4 or 8 bytes.
    Matrix products and attention take another kernel there on some processors (found with MKL on AVX2), and their
    last bits differ from those of the same weights in a process that has made them, or has copied them. Strides and
    the sharing of parameters stay.
    """
    parts: Any = [loaded] if isinstance(loaded, nn.Module) else getattr(loaded, "components", {}).values()
    for part in parts:
        if isinstance(part, nn.Module):
            for tensor in (*part.parameters(), *part.buffers()):
                if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNED:
                    tensor.data = tensor.detach().clone(memory_format=torch.preserve_format)
    return loaded
