"""A configuration from presets, files, values and `--set key=value`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.config.defaults import fill_in, silent
from fedloom.config.preset_files import preset_tree
from fedloom.config.run import Config
from fedloom.config.trees import merged, nested, override, read_tree, validate
from fedloom.errors import check_list
from fedloom.tasks import CLIENT_TASKS


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
    whole = fill_in(tree, say or silent)
    config: Config = validate(Config, whole)
    said = tree.get("clients") or {}
    config.clients.model_fields_set.difference_update(m for m in CLIENT_TASKS if m not in said)
    return config
