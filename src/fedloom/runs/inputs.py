"""What a run is made of, as digests in its `environment.json`: it goes on with the same only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput

_NEEDED = ("its settings in config.yaml", "its data")  # earlier versions wrote neither weights nor code down


def refuse_changed(file: Path, began: Mapping[str, Any], now: Mapping[str, Any], *, begun: bool) -> None:
    """Raises BadInput where a run is not made of what it began with.

    Args:
        began: the content of `file`, its `environment.json`.
        now: digests, as `RunFolder.pin_inputs` writes them there.
        begun: whether the run has rounds, so that what they were made of must be known.
    """
    pinned = _named(began)
    for what, digest in _named(now).items():
        if pinned.get(what) is None and begun and what in _NEEDED:
            raise BadInput(
                f"{file}: it lacks the digest of {what}, without which a run that has rounds does not go on. "
                "Put the file back, or begin a new run"
            )
        if pinned.get(what) not in (None, digest):
            raise BadInput(
                f"{file.parent}: {what} have changed since it began (digest {str(pinned[what])[:12]} in "
                f"{file.name}, now {digest[:12]}). Put back the files it began with, or begin a new run"
            )


def _named(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Each digest by what it is of."""
    of = {f"the {kind} of {k}": d for kind in ("weights", "code") for k, d in (facts.get(kind) or {}).items()}
    return {"its settings in config.yaml": facts.get("config"), "its data": facts.get("data")} | of


def config_digest(flat: Mapping[str, Any], may_differ: tuple[str, ...]) -> str:
    """Of a configuration of dotted keys, without those that do not count."""
    told = {key: value for key, value in flat.items() if not _is_free(key, may_differ)}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def differences(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    usual: Mapping[str, Any],
    may_differ: tuple[str, ...],
) -> list[str]:
    """How two configurations of dotted keys differ, one line a key, but for keys that do not count.

    usual: what keys that only one side has are where nobody sets them. Such, and empty ones, are named only where
        nothing else differs.
    """
    lines: list[str] = []
    minor: list[str] = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        if _is_free(key, may_differ):
            continue
        a, b = ours.get(key), theirs.get(key)
        if (key in ours) == (key in theirs) and (a == b or repr(a) == repr(b)):  # repr: a NaN is the same as a NaN
            continue
        own = a if key in ours else b
        one_sided = (key in ours) != (key in theirs)
        idle = one_sided and (own in (None, {}, [], ()) or own == usual.get(key))
        (minor if idle else lines).append(f"{key}: the run has {_shown(key, ours)}, now {_shown(key, theirs)}")
    return lines or minor


def _shown(key: str, tree: Mapping[str, Any]) -> str:
    value = tree.get(key)
    return "nothing" if value is None else repr(value)


def _is_free(key: str, names: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of the names, or lies in a group that is."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
