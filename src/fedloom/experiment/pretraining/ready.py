"""The models of the default scene that come with the package: entries of the cache, as `benchmarks/shipped.py` made
them, so that a first run trains none of them.

One is taken only where it is what the configuration asks for: its key, which is in its manifest, says all that it
depends on (data, seed, settings, steps, format of the code). The machine that trained it is left out: another torch, or
more threads, would give the same weights but for the last bits. Its folder is named by its contents, not by its key: so
what is cached of it is never taken for what another training gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import FedloomError
from fedloom.runs.cache import digest_of
from fedloom.runs.disk import read_object
from fedloom.runs.manifest import MANIFEST, damage
from fedloom.weights.place import READY

_MACHINE = ("torch", "threads")


def ready(family: str, key: Mapping[str, Any]) -> Path | None:
    """The folder in the package of the model with this key; None where there is none.

    Args:
        family: folder of the cache that it would lie in.

    Raises:
        FedloomError: it is damaged.
    """
    wanted = digest_of(_anywhere(key))
    for entry in sorted((READY / family).glob(f"*/{MANIFEST}")):
        if digest_of(_anywhere(read_object(entry)["key"])) != wanted:
            continue
        if problem := damage(entry.parent, contents=True):
            raise FedloomError(
                f"{entry.parent}, which comes with fedloom, is damaged ({problem}): install fedloom again, "
                "or train anew (--retrain)"
            )
        return entry.parent
    return None


def _anywhere(key: Mapping[str, Any]) -> dict[str, Any]:
    """A key without the machine, that of the model it was built on too."""
    return {k: _anywhere(v) if isinstance(v, Mapping) else v for k, v in key.items() if k not in _MACHINE}
