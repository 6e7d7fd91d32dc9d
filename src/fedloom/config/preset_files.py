"""The presets that come with fedloom: YAML files in `config/presets`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from fedloom.config.trees import merged, read_tree
from fedloom.errors import unknown


def presets() -> dict[str, Path]:
    """Name to file of the presets that come with fedloom."""
    folder = Path(str(resources.files("fedloom.config") / "presets"))
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*.yaml"))}


def preset_tree(names: str) -> dict[str, Any]:
    """What the presets `names` say ("a,b": b over a). Raises BadInput for an unknown one, with the nearest."""
    known, tree = presets(), dict[str, Any]()
    for name in (part.strip() for part in names.split(",")):
        if name not in known:
            raise unknown("preset", name, known)
        tree = merged(tree, read_tree(known[name]))
    return tree
