"""Pretrained parts from a folder or hub name; whatever is wrong with one becomes one line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, first_line
from fedloom.weights import hub_arguments, need, placed

_WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


def load_pretrained(what: str, name: str | Path, kind: Any, **more: Any) -> Any:
    """`kind.from_pretrained` of a folder or hub name.

    Args:
        what: its part in the run, for the error.
        kind: a class of transformers.
        more: what `from_pretrained` takes besides.

    Raises:
        BadInput: there is no such folder or hub name, or it does not hold what `kind` reads.
    """
    from safetensors import SafetensorError

    from fedloom.models.memory import in_own_memory

    need(what, str(name))
    try:
        loaded = kind.from_pretrained(placed(str(name)), **hub_arguments(str(name)), **more)
    except (*_WRONG, SafetensorError) as error:
        raise BadInput(f"{what} {name}: cannot be loaded: {first_line(error)}") from error
    in_own_memory(loaded[0] if isinstance(loaded, tuple) else loaded)
    return loaded


def pretrained_config(what: str, name: str | Path, kinds: Collection[str] = ()) -> Any:
    """Its configuration, read without its weights.

    Raises:
        BadInput: it cannot be read, or its model_type is none of `kinds` (where any are said).
    """
    from transformers import AutoConfig

    know_own_classes()
    config = load_pretrained(what, name, AutoConfig)
    if kinds and config.model_type not in kinds:
        raise BadInput(f"{what} {name}: holds a {config.model_type}, allowed: {', '.join(kinds)}")
    return config


def know_own_classes() -> None:
    """Has transformers' Auto classes know the networks of ours that are saved and loaded as its own are."""
    import fedloom.models.clients.efficientnet_lite
    import fedloom.models.clients.gru_network  # noqa: F401


def pretrained_model(what: str, name: str | Path, kind: Any, *, fresh: tuple[str, ...] = (), **more: Any) -> Any:
    """The model, in fp32 and evaluation mode. What the folder lacks would be random: that is an error.

    Args:
        fresh: how the names of weights begin that may be new.

    Raises:
        BadInput: as `load_pretrained`; or weights are missing, the first of which is named.
    """
    import torch

    model, found = load_pretrained(what, name, kind, output_loading_info=True, dtype=torch.float32, **more)
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(fresh))
    if missing:
        raise BadInput(
            f"{what} {name}: {len(missing)} weights of a {type(model).__name__} are missing, such as {missing[0]}"
        )
    return model.eval()
