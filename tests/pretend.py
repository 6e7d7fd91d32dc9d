"""A pretended accelerator: two devices, `lazy:0` and `lazy:1`, for machines that have none. Real numbers, no speed.

    with pretended():
        model = build().to(DEVICE)
        model(batch.to(DEVICE)).sum().backward()

A tensor on such a device holds a tensor of the CPU and computes with it, so results are the CPU's to the last bit. What
a GPU refuses is refused: tensors of several devices in one operation, `.numpy()`, a generator of another device. What
it allows is allowed: CPU tensors without axes in elementwise operations, CPU indices. `lazy` is the one device type
beside `meta` that a build of torch for CPUs can differentiate on.

Not pretended: random numbers of their own (dropout draws the CPU's), autocast inside calls that torch writes in Python
(`F.multi_head_attention_forward`), memory and time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode

from pretend_device import DEVICE, OTHER, Dispatched, Generator, Pretended, mapped, replace

__all__ = ["DEVICE", "OTHER", "Pretended", "pretended"]

FLASH = 1  # torch.nn.attention.SDPBackend.FLASH_ATTENTION, as a number
_autocast = torch.autocast


class Called(TorchFunctionMode):
    """Sees calls before torch takes them apart: attention, which on the CPU is one kernel, and autocast's casts."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is Tensor.data.__set__:
            return replace(*args) if isinstance(args[1], Pretended) else function(*args)
        if Autocast.active and Autocast.active[-1] is not None:
            args, kwargs = cast(function, args, kwargs, Autocast.active[-1])
        if function is F.scaled_dot_product_attention and isinstance(args[0], Pretended):
            return attention(*args, **kwargs)
        return function(*args, **kwargs)


def attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, *more: Any, **named: Any) -> Any:
    """Attention by the kernel that the CPU takes for the same tensors."""
    plain = [t.held if isinstance(t, Pretended) else t for t in (q, k, v, attn_mask)]
    learned = attn_mask is not None and attn_mask.requires_grad  # a bias: no fused kernel gives its gradient
    if learned or torch._fused_sdp_choice(*plain, dropout_p, *more, **named) != FLASH:
        return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, *more, **named)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill_(~attn_mask, -torch.inf)
    causal = more[0] if more else named.get("is_causal", False)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(q, k, v, dropout_p, causal, attn_mask=attn_mask, scale=named.get("scale"))[0]


LOWERED = {"linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "conv1d", "conv2d"}
LOWERED |= {"conv_transpose2d", "scaled_dot_product_attention"}
RAISED = {
    "softmax",
    "log_softmax",
    "layer_norm",
    "group_norm",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "kl_div",
}
RAISED |= {
    "exp",
    "log",
    "pow",
    "logsumexp",
    "norm",
    "vector_norm",
    "cosine_similarity",
    "sum",
    "cumsum",
    "prod",
}


def cast(function: Any, args: Any, kwargs: Any, dtype: torch.dtype) -> Any:
    """A call's pretended floats as autocast on a GPU would have them."""
    name = getattr(function, "__name__", "")
    if name not in LOWERED | RAISED:
        return args, kwargs
    to = dtype if name in LOWERED else torch.float32

    def moved(leaf: Tensor) -> Tensor:
        low = isinstance(leaf, Pretended) and leaf.dtype in (torch.float32, torch.float16, torch.bfloat16)
        return leaf.to(to) if low else leaf

    return mapped(moved, (args, kwargs))


class Autocast:
    """`torch.autocast("lazy", dtype)`: products in `dtype`, norms, losses and sums in fp32."""

    active: ClassVar[list[torch.dtype | None]] = []

    def __init__(self, dtype: torch.dtype | None, enabled: bool) -> None:
        self.dtype = (dtype or torch.float16) if enabled else None

    def __enter__(self) -> None:
        self.active.append(self.dtype)

    def __exit__(self, *_: object) -> None:
        self.active.pop()


def autocast(device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> Any:
    """`torch.autocast`, for pretended devices too."""
    if device_type == "lazy":
        return Autocast(dtype, enabled)
    return _autocast(device_type, dtype, enabled, cache_enabled)


_load = torch.nn.Module.load_state_dict


def load_state_dict(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Parameters are swapped; a GRU holds weak references to its own, with which they cannot be."""
    recurrent = [m for m in self.modules() if isinstance(m, torch.nn.RNNBase)]
    for m in recurrent:
        m._flat_weight_refs = []
    try:
        return _load(self, *args, **kwargs)
    finally:
        for m in recurrent:
            m._init_flat_weights()


@contextmanager
def pretended() -> Iterator[None]:
    """Torch believes in two accelerators, `DEVICE` and `OTHER`, in this thread."""
    lift, swap = torch._C._only_lift_cpu_tensors(), torch.__future__.get_swap_module_params_on_conversion()
    module = SimpleNamespace(_initialized=False, device_count=lambda: 2, synchronize=lambda device=None: None)
    enabled = torch.is_autocast_enabled
    patches = {
        "Generator": Generator,
        "autocast": autocast,
        "lazy": module,
        "is_autocast_enabled": lambda *device: (
            bool(Autocast.active and Autocast.active[-1]) if device == ("lazy",) else enabled(*device)
        ),
    }
    torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device=DEVICE) asks us
    torch.__future__.set_swap_module_params_on_conversion(True)  # so that .to(DEVICE) keeps the parameter objects
    try:
        with ExitStack() as stack:
            for name, value in patches.items():
                stack.enter_context(mock.patch.object(torch, name, value, create=True))
            fused = optimizer._get_fused_kernels_supported_devices
            names = lambda: [*fused(), "lazy"]  # noqa: E731
            stack.enter_context(mock.patch.object(optimizer, "_get_fused_kernels_supported_devices", names))
            stack.enter_context(mock.patch.object(torch.nn.Module, "load_state_dict", load_state_dict))
            stack.enter_context(Called())
            stack.enter_context(Dispatched())
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_swap_module_params_on_conversion(swap)
