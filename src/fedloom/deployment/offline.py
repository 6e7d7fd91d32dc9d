"""The environment of Flower and Ray: without telemetry, downloads or proxies; and whether they are installed."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

from fedloom.errors import BadInput
from fedloom.processes.child import python_environment

# Variable -> (value, why). The guide lists these; a test holds the two together.
SWITCHES: dict[str, tuple[str, str]] = {
    "FLWR_TELEMETRY_ENABLED": ("0", "no usage events to Flower's makers"),
    "FLWR_DISABLE_UPDATE_CHECK": ("1", "no look for newer versions"),
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": ("1", "nothing is installed when a run begins"),
    "FLWR_ENABLE_EVENT_LOG": ("0", "no event log plugin"),
    "FLWR_TRACING_ENABLED": ("0", "no traces are sent"),
    "RAY_USAGE_STATS_ENABLED": ("0", "no usage statistics to Ray's makers"),
    "RAY_DISABLE_IMPORT_WARNING": ("1", "no advertisement on import"),
    "HF_HUB_DISABLE_TELEMETRY": ("1", "no usage events to the model hub"),
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": ("0.1", "seconds between looks for work; Flower's own 1 s is slow"),
    "PYTHONUNBUFFERED": ("1", "logs are written as things happen"),
}
OLDEST, TOO_NEW = (1, 41), (1, 43)
_HERE = "127.0.0.1,localhost,::1"
_INSTALL = "pip install 'fedloom[flower]'"


def engine_environment(home: Path, threads: int | None = None) -> dict[str, str]:
    """`python_environment(threads)` with all switches; `home` is where Flower keeps its own files."""
    home.mkdir(parents=True, exist_ok=True)
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), _HERE]))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        **python_environment(threads),
        **{name: value for name, (value, _) in SWITCHES.items()},
        "FLWR_HOME": str(home.resolve()),
        "PATH": path,
        "NO_PROXY": direct,  # what a silo's processes say to each other is for no proxy
        "no_proxy": direct,
    }


def require_flower() -> None:
    """Raises BadInput, with the command that mends it, unless a Flower that we know is installed."""
    try:
        version = metadata.version("flwr")
        metadata.version("cryptography")
    except metadata.PackageNotFoundError as error:
        raise BadInput(f"the Flower engine needs {error.name}, which is not installed: {_INSTALL}") from None
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not OLDEST <= found < TOO_NEW:
        oldest, new = (".".join(map(str, v)) for v in (OLDEST, TOO_NEW))
        raise BadInput(f"flwr is {version}, allowed: at least {oldest} and below {new}: {_INSTALL}")


def require_ray() -> None:
    """Raises BadInput, with the command that mends it, unless Flower's simulation can run."""
    require_flower()
    try:
        metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise BadInput(
            "engine.mode = 'simulation' needs ray, which is not installed: pip install 'fedloom[simulation]'"
        ) from None
