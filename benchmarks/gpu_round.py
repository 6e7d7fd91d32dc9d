"""One whole round of a paper's preset at real size: models of random weights, a drawn data set, `fedloom run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from made_flowers102 import write as write_flowers
from measured import Row
from random_weights import MODELS, put

from fedloom.results import load_run

PRESET = "paper/flowers102-sd"
LIMIT = 540.0  # seconds that one call lets the run go on; what is done is kept
# What the drawn pictures can stand for at full size, and the smallest run that still has all its parts.
SETTINGS: dict[str, tuple[str, ...]] = {
    "real": ("rounds=1",),
    "tiny": (
        *("rounds=1", "data.options.size=64", "clients.warm_steps=1", "clients.batch=4", "server.tokens=16"),
        *("server.generator.sampling_steps=2", "server.captioner.max_tokens=4", "evaluation.judge.steps=1"),
        *("evaluation.prompts_per_class=1", "settings.samples=8", "settings.private_steps=1"),
        *("settings.retrain_steps=1", "settings.tune_steps=1", "settings.tune_batch=2", "settings.gamma=0"),
    ),
}
FLOWERS: dict[str, dict[str, Any]] = {
    "real": {"side": 500},
    "tiny": {"side": 40, "classes": 102, "per_class": (1, 1, 1)},
}


def command(data: Path, run: Path, size: str, device: torch.device, more: list[str]) -> list[str]:
    """`fedloom run`, or its resumption where the run's folder is there."""
    fedloom = [sys.executable, "-c", "from fedloom.cli.main import main; raise SystemExit(main())", "run"]
    if (run / "config.yaml").is_file():
        return [*fedloom, "--resume", str(run)]
    precision = () if device.type == "cuda" else ("clients.precision=fp32", "server.precision=fp32")
    judge = () if device.type == "cuda" else ("evaluation.judge.precision=fp32",)
    places = (f"server.device={device}", f"clients.devices=[{device}]", *precision, *judge)
    sets = [word for value in (*SETTINGS[size], *places, *more) for word in ("--set", value)]
    return [*fedloom, "--preset", PRESET, "--root", str(data), "--out", str(run), *sets]


def rows(weights: Path, size: Any, device: torch.device, work: Path, more: list[str]) -> list[Row]:
    """Seconds of each phase of the finished round, of the set-up, and in all.

    Raises:
        SystemExit: the run failed, or is not finished yet; then the same call goes on with it.
    """
    for name in MODELS:
        put(weights, name, size)
    data, run = work / f"flowers102-{size}", work / f"run-{size}"
    if not (data / "setid.mat").is_file():  # it is written last
        write_flowers(data, **FLOWERS[size])
    try:
        done = subprocess.run(command(data, run, size, device, more), check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"not finished after {LIMIT:.0f} s: give the same command again, it goes on") from None
    if done.returncode:
        raise SystemExit(f"the run failed (exit code {done.returncode}); its folder: {run}")
    return phases(run)


def phases(run: Path) -> list[Row]:
    """The seconds that a finished run has on record, and its peak of memory with the total.

    `rest` is what no phase counts.
    """
    finished = load_run(run)
    spent = finished.summary["seconds"]
    found = [
        {"what": f"round {row['round']} of {PRESET}", "way": phase, "seconds": value}
        for row in finished.rounds
        for phase, value in row.get("seconds", {}).items()
    ]
    rest = spent["total"] - spent["setup"] - sum(row["seconds"] for row in found)
    whole = {"setup": spent["setup"], "rest": rest, "total": spent["total"]}
    found += [{"what": f"run of {PRESET}", "way": way, "seconds": value} for way, value in whole.items()]
    found[-1]["peak_bytes"] = finished.summary.get("peak_memory_bytes")
    return found
