"""Seconds, FLOP and memory of a call on a device, and what the device could do at best."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
# Published dense peaks: FLOP/s by arithmetic, bytes/s of memory. The most telling name stands first.
PEAKS: dict[str, dict[str, float]] = {
    "H200": {"bf16": 989.5e12, "fp16": 989.5e12, "tf32": 494.7e12, "fp32": 66.9e12, "bytes": 4.8e12},
    "H100 PCIe": {"bf16": 756e12, "fp16": 756e12, "tf32": 378e12, "fp32": 51.2e12, "bytes": 2.0e12},
    "H100 80GB HBM3": {
        "bf16": 989.5e12,
        "fp16": 989.5e12,
        "tf32": 494.7e12,
        "fp32": 66.9e12,
        "bytes": 3.35e12,
    },
    "A100-SXM4-40GB": {"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12, "bytes": 1.555e12},
    "A100": {"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12, "bytes": 2.039e12},
    "L40S": {"bf16": 362e12, "fp16": 362e12, "tf32": 183e12, "fp32": 91.6e12, "bytes": 0.864e12},
    "RTX 4090": {"bf16": 165.2e12, "fp16": 165.2e12, "tf32": 82.6e12, "fp32": 82.6e12, "bytes": 1.008e12},
}


def peak(device: torch.device, what: str) -> float | None:
    """The card's published peak in FLOP/s (fp32, tf32, fp16, bf16) or bytes/s (bytes); None for one not on the list."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks[what] for key, peaks in PEAKS.items() if key in name), None)


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Of one call: by CUDA's own events, elsewhere by the clock."""
    settle(device)
    if device.type != "cuda":
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun
    with torch.cuda.device(device):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        call()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """The most memory that tensors took during a call; on a CPU the process's highest resident memory so far."""
    if device.type != "cuda":
        call()
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settle(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    settle(device)
    return int(torch.cuda.max_memory_allocated(device))


def flop(call: Callable[[], Any]) -> int:
    """FLOP of the products, convolutions and attentions of one call, two a multiplication and addition."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def in_turn(calls: dict[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, Row]:
    """Several ways of doing the same, by turns, so that what disturbs one disturbs its neighbour; the first is dropped.

    Returns:
        Of each: seconds (all), min, median, max, peak_bytes (of the first, dropped call).
    """
    found: dict[str, Row] = {name: {"peak_bytes": peak_bytes(call, device)} for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    for name, each in times.items():
        found[name] |= {
            "seconds": each,
            "min": min(each),
            "median": statistics.median(each),
            "max": max(each),
        }
    return found


def against(row: Row, device: torch.device, arithmetic: str, flops: float, moved: float | None = None) -> Row:
    """The row with FLOP (and bytes) and their shares of the card's peaks at the median; None for an unknown card."""
    row = row | {"arithmetic": arithmetic, "flop": flops, "flop_per_s": flops / row["median"]}
    top = peak(device, arithmetic)
    row["share_of_flop_peak"] = None if top is None else row["flop_per_s"] / top
    if moved is not None:
        top = peak(device, "bytes")
        row |= {"bytes": moved, "share_of_byte_peak": None if top is None else moved / row["median"] / top}
    return row


def write(rows: list[Row], out: Path, device: torch.device) -> None:
    """Append rows as JSON lines, each with where it was measured; and print them in short."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    here = {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row | here) + "\n")
            brief = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            said = [f"{k} {v}" for k, v in brief.items() if v is not None and not isinstance(v, list)]
            print(", ".join(said), flush=True)
