"""How fast a device multiplies matrices: measured where it is here, else by the maker's figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedloom.errors import BadInput, unknown

TERA = 1e12


class Peak(NamedTuple):
    """TFLOP/s of dense products: in bf16 or fp16 on tensor cores, and in fp32 outside them."""

    half: float
    full: float


# The makers' data sheets, dense, without sparsity. Of the V100 and the T4, which have no bf16, fp16.
PEAKS: Mapping[str, Peak] = {
    "B200": Peak(2250, 75),
    "H200": Peak(989, 67),
    "H100": Peak(989, 67),
    "H100-PCIe": Peak(756, 51),
    "A100": Peak(312, 19.5),
    "L40S": Peak(362, 91.6),
    "L4": Peak(121, 30.3),
    "A10": Peak(125, 31.2),
    "RTX-4090": Peak(165, 82.6),
    "V100": Peak(125, 15.7),
    "T4": Peak(65, 8.1),
}


def rate_of(device: str, precision: str, on: str | None = None) -> tuple[float, str] | None:
    """FLOP/s of a device and where the figure comes from; None for one that is not here, where no `on` names it.

    Args:
        device: as torch names it.
        precision: fp32, fp16 or bf16.
        on: an accelerator by name, whose figures are taken for every device but the CPU.

    Raises:
        BadInput: no such accelerator.
    """
    if on is not None and on not in PEAKS:
        raise unknown("accelerator", on, PEAKS)
    if on is not None and not device.startswith("cpu"):
        peak = PEAKS[on].full if precision == "fp32" else PEAKS[on].half
        return peak * TERA, f"{on}'s data sheet, {precision}"
    from fedloom.models.device import device_of

    try:
        place = device_of(device)
    except BadInput:
        return None
    return _measured(place, precision), f"measured here by products of matrices, {precision}"


def _measured(device: Any, precision: str) -> float:
    """The best of five products of square matrices, after one that does not count."""
    import torch

    from fedloom.models.device import DTYPES

    n = 512 if device.type == "cpu" else 8192
    a = torch.ones(n, n, device=device, dtype=DTYPES[precision])
    best = float("inf")
    for turn in range(6):
        start = time.perf_counter()
        total = (a @ a)[0, 0].item()  # to have a number is to have waited for it
        if turn and total:
            best = min(best, time.perf_counter() - start)
    return float(2 * n**3 / best)
