"""A configuration from presets, files, values and `--set key=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from fedloom.config.run import Config
from fedloom.config.trees import merged, nested, override, read_tree, validate
from fedloom.data.tasks import CLIENT_TASKS
from fedloom.errors import check_list, unknown


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


def load_config(
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> Config:
    """Build the configuration: defaults, then preset, then file, then `values`, then `key=value` overrides.

    Where nothing is said of data and clients, those that fit the method and one another: see `fedloom.config.defaults`.

    Args:
        preset: a name, or several with commas between, later ones over earlier ones.
        say: told, in a line each, what was filled in.

    Raises:
        BadInput: an unknown key (with the nearest one), a value that does not fit, an unreadable file.
    """
    check_list(overrides=overrides)
    tree: dict[str, Any] = {}
    if preset is not None:
        tree = preset_tree(preset)
    if file is not None:
        tree = merged(tree, read_tree(Path(file)))
    tree = merged(tree, nested(values or {}))
    for text in overrides:
        tree = merged(tree, override(text))
    return filled(tree, say)


def filled(tree: Mapping[str, Any], say: Callable[[str], None] | None = None) -> Config:
    """The configuration of a tree, completed by `defaults.fill_in`. Raises BadInput.

    Groups of clients that the tree says nothing of are not among `config.clients.model_fields_set`: their numbers may
    change where the data have too few samples for them.
    """
    from fedloom.config.defaults import fill_in, silent

    whole = fill_in(tree, say or silent)
    config: Config = validate(Config, whole)
    said = tree.get("clients") or {}
    config.clients.model_fields_set.difference_update(m for m in CLIENT_TASKS if m not in said)
    return config
