"""`fedloom --version`: versions and devices, told without importing what they are of."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from fedloom import __version__

DRIVER = Path("/proc/driver/nvidia/gpus")  # where NVIDIA's driver describes its GPUs, on Linux


def version_text(gpus: Path = DRIVER) -> str:
    """fedloom, then what figures depend on: torch, Flower, Python, and the devices that this torch can use."""
    torch = _version("torch")
    rows = {
        "torch": torch,
        "devices": ", ".join(("cpu", *_accelerators(torch, gpus))),
        "flower": _version("flwr"),
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
    }
    return "\n".join([f"fedloom {__version__}", *(f"{name:8}{said}" for name, said in rows.items())])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _accelerators(torch: str, gpus: Path) -> list[str]:
    """As torch names them; none of a torch that is built for processors alone."""
    if torch.endswith("+cpu") or torch == "not installed":
        return []
    if sys.platform == "darwin":
        return ["mps"] if platform.machine() == "arm64" else []
    models = [
        found[1].strip() if (found := re.search(r"^Model:(.*)$", file.read_text("utf-8"), re.MULTILINE)) else "GPU"
        for file in sorted(gpus.glob("*/information"))
    ]
    return [f"cuda:{i} ({model})" for i, model in enumerate(models)]
