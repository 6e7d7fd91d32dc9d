"""What a run ran on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

PACKAGES = (
    "fedloom", "torch", "transformers", "diffusers", "tokenizers", "safetensors", "torchmetrics", "numpy",
    "scipy", "scikit-learn", "pillow", "flwr", "opacus", "peft",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of the installed packages that results depend on, without importing one."""
    return {name: found for name in PACKAGES if (found := _version(name)) is not None}


@cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def describe_environment() -> dict[str, Any]:
    """Python, platform, package versions, processors, the command and the time (UTC)."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": versions(),
    }
