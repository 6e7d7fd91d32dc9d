"""What a run was made on: processor, SIMD capability, cores, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("src", "pyproject.toml", "benchmarks/studies")  # what figures depend on


@cache
def machine() -> dict[str, str]:
    """processor: the model's name, with family and model number where the system tells them; simd; cores."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"processor": processor(), "simd": torch.backends.cpu.get_cpu_capability(), "cores": str(cores)}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model. Virtual machines hide it behind a common name: family and model number are added."""
    if cpuinfo.is_file():
        facts = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.read_text().split("\n\n")[0], re.MULTILINE))
        if name := facts.get("model name"):
            more = [
                f"{word} {facts[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in facts
            ]
            return " ".join(name.split()) + (f" ({', '.join(more)})" if more else "")
    if platform.system() == "Darwin":
        told = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if told.stdout.strip():
            return told.stdout.strip()
    return platform.processor() or platform.machine()


def commit(root: Path = ROOT) -> str:
    """The short hash of the commit, with `-dirty` where code or studies differ from it; `unknown` without git."""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", *CODE], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
