"""MultiRepFusion at the size of a large federation, beside the products and the memory traffic that bound it."""

from __future__ import annotations

from typing import Any

import torch
from measured import Row, against, in_turn

from fedloom.functional.fusion import fuse_modalities

# Clients of each modality, samples, width.
SIZES = {"real": (32, 100_000, 768), "tiny": (2, 600, 32)}
# Passes over a block of scores: written by the product, read for the maximum, read and written for the difference and
# for the exponential, read for the sum.
PASSES = 7


def flops(clients: int, n: int, width: int) -> float:
    """FLOP of eq. 8's products alone, all clients': 2 K N^2 D. The rest is O(K N D)."""
    return 2.0 * clients * n * n * width


def moved(clients: int, n: int, width: int) -> float:
    """Bytes that blocks of fp32 scores move, and twenty passes over the representations (unit, attention, sum)."""
    return 4.0 * clients * n * (PASSES * n + 20 * width)


def rows(size: str, device: torch.device, repeats: int) -> list[Row]:
    """fp32 as torch computes it by default, and (on CUDA) with TF32 products."""
    each, n, width = SIZES[size]
    draws = torch.Generator(device).manual_seed(0)
    image, text = (torch.randn((each, n, width), generator=draws, device=device) for _ in range(2))

    def fused(kind: str) -> Any:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
        try:
            return fuse_modalities(image, text)
        finally:
            torch.set_float32_matmul_precision(before)

    kinds = ("fp32", "tf32") if device.type == "cuda" else ("fp32",)
    found = in_turn({kind: lambda kind=kind: fused(kind) for kind in kinds}, device, repeats)
    work = flops(2 * each, n, width), moved(2 * each, n, width)
    what = {"what": f"MultiRepFusion, {2 * each} clients, N = {n}, D = {width}"}
    return [what | {"way": kind} | against(found[kind], device, kind, *work) for kind in kinds]
