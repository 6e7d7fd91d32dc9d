"""Which weights and data sets a configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from fedloom.config.archs import spec_of
from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.runs.exports import check_export, is_sealed
from fedloom.weights.packages import is_address, parse_address
from fedloom.weights.place import is_hub_name, shipped

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.data.registry import Dataset


GIVEN = ("pretrained", "retrieve", "autoencoder", "towers")  # fields that name weights


def named_weights(config: Config) -> dict[str, list[str]]:
    """The weights that must be fetched for a configuration, each with the keys that name it. Paths here, and
    weights that come with the package, are left out.

    Raises:
        BadInput: a key names a path that is not here, an exported model that is damaged, or a malformed address in a
            package.
    """
    found: dict[str, list[str]] = {}
    for key, name, arch in _named(config, ""):
        if Path(name).exists() or shipped(name):
            if is_sealed(Path(name)):
                check_export(Path(name))
            continue
        packed = is_address(name)
        if packed:
            parse_address(name)
        if _is_local(arch) or not (packed or is_hub_name(name)):
            raise BadInput(f"{key} = {name!r}: no such path here{_or_hub(arch)}")
        found.setdefault(name, []).append(key)
    return found


def _is_local(arch: str | None) -> bool:
    """Whether the weights of a client model are a path, never a hub name."""
    return arch is not None and spec_of(arch).local


def _or_hub(arch: str | None) -> str:
    return f", and {arch} is loaded from one" if _is_local(arch) else ", and no hub name (OWNER/NAME)"


def _named(node: object, key: str) -> Iterator[tuple[str, str, str | None]]:
    """Key, name and arch, where there is one, of all that is said to be pretrained below `node`."""
    if isinstance(node, ModelSettings):
        for tower in node.towers():
            if tower.pretrained:
                yield f"{key}.pretrained", tower.pretrained, tower.arch
    elif isinstance(node, tuple):
        for number, entry in enumerate(node):
            yield from _named(entry, f"{key}.{number}")
    elif isinstance(node, BaseModel):
        for field in type(node).model_fields:
            value, inner = getattr(node, field), f"{key}.{field}" if key else field
            if (field in GIVEN or inner == "evaluation.features") and isinstance(value, str):
                yield from ((inner, part, None) for part in (value.split("+") if field == "towers" else [value]))
            else:
                yield from _named(value, inner)


def named_data(config: Config) -> list[tuple[Dataset, str | None]]:
    """The data sets that need a folder, each with the root that is set for it, if one is."""
    from fedloom.data.registry import DATASETS, PAIR_SETS

    parts = [value for value in config.data.options.values() if isinstance(value, dict)]  # of the set `mixed`
    named = [(config.data.name, config.data.root), *((part.get("name"), part.get("root")) for part in parts)]
    found = ((DATASETS.get(name) or PAIR_SETS.get(name), root) for name, root in named if isinstance(name, str))
    return [(declared, root) for declared, root in found if declared is not None and declared.layout]
