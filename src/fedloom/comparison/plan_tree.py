"""What a plan is written in: a YAML file, a mapping, a comparison that comes with fedloom, or a run's configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from fedloom.config import Config, preset_tree
from fedloom.config.trees import merged, nested, read_tree
from fedloom.config.yaml_core import Tree
from fedloom.errors import BadInput, unknown
from fedloom.registry import METHODS


def comparisons() -> dict[str, Path]:
    """Name to file of the comparisons that come with fedloom."""
    folder = Path(str(resources.files("fedloom.comparison") / "presets"))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def plan_tree(source: str | Path | Mapping[str, Any], methods: Sequence[str] | None = None) -> Tree:
    """A plan's tree: of a file, or of a mapping that says the same; or of a run's configuration, as `base`.

    It lies over that of the comparison it is `like`, its base over the `preset` that it names. `$NAME` in it is an
    environment variable's value.

    Args:
        methods: the rows where `source` has none, or is a run's configuration: it has keys of one, and none of a plan.

    Raises:
        BadInput: it cannot be read, or names what is not there.
    """
    name = "plan" if isinstance(source, Mapping) else f"plan {Path(source).name}"
    tree = nested(source) if isinstance(source, Mapping) else read_tree(Path(source), "plan")
    if not tree.keys() - Config.model_fields.keys():
        tree = _around(tree, methods, name)
    elif methods and not tree.keys() & {"rows", "like"}:
        tree["rows"] = [{"method": m} for m in methods]
    if isinstance(base := tree.get("base"), dict) and "preset" in base:
        # Rows name their methods.
        below = {k: v for k, v in preset_tree(str(base.pop("preset"))).items() if k != "method"}
        tree["base"] = merged(below, base)
    for key in ("base", "rows", "columns"):
        if key in tree:
            tree[key] = _with_variables(tree[key], name)
    like = tree.pop("like", None)
    if like is None:
        return tree
    if like not in comparisons():
        raise unknown("comparison", str(like), comparisons())
    below = plan_tree(comparisons()[like])
    if isinstance(tree.get("base", {}), Mapping):
        tree["base"] = merged(below.get("base", {}), tree.get("base", {}))
    return Tree({**below, **tree}, places={**below.places, **tree.places})


def _around(tree: Tree, methods: Sequence[str] | None, name: str) -> Tree:
    """A plan over a run's configuration: `methods` are its rows; the settings stay with the method they are for."""
    if not methods:
        raise BadInput(
            f"{name}: it has no rows, only a run's configuration: name the methods that are to be compared over it"
        )
    own = METHODS.lenient(tree.get("method", Config().method))
    settings = {"settings": tree["settings"]} if tree.get("settings") else {}
    seeds = {"seeds": [tree["seed"]]} if "seed" in tree else {}
    apart = ("method", "seed", "engine", "settings")  # every cell runs on the engine local with one thread
    base = Tree({k: v for k, v in tree.items() if k not in apart}, places=tree.places)
    rows = [{"method": m, "set": settings if METHODS.lenient(m) == own else {}} for m in methods]
    return Tree({"base": base, "rows": rows, **seeds})


def _with_variables(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        read = {k: _with_variables(v, name) for k, v in value.items()}
        return Tree(read, places=getattr(value, "places", {}))
    if isinstance(value, list):
        return [_with_variables(v, name) for v in value]
    if not isinstance(value, str):
        return value
    for variable in re.findall(r"\$(\w+)", value):
        if variable not in os.environ:
            raise BadInput(f"{name}: {value!r} needs ${variable}, which is not set in the environment")
        value = value.replace(f"${variable}", os.environ[variable])
    return value
