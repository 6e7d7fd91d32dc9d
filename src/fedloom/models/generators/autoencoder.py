"""A small image autoencoder, whose latents the embedded generator diffuses in place of pixels."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, first_line
from fedloom.strict_json import parse
from fedloom.weights.place import found_here, need

FACTOR = 8  # side of a picture over side of its latents, of all that are known here
_CLASSES = ("AutoencoderTiny", "PooledTinyAutoencoder")
PARTS = ("encoder", "decoder")
_PAIR = tuple(f"{part}.safetensors" for part in PARTS)
_KEY = "server.generator.autoencoder"


def shape_of_config(config: Mapping[str, Any]) -> Any:
    """The autoencoder of a configuration, on torch's present default device. Raises BadInput for another class."""
    import diffusers

    from fedloom.models.generators import pixel_pipeline as known_here  # noqa: F401  makes its class one of diffusers

    kind = config.get("_class_name")
    if kind not in _CLASSES:
        raise BadInput(f"generator's autoencoder: {kind!r}, allowed: {', '.join(_CLASSES)}")
    return getattr(diffusers, str(kind)).from_config(dict(config))


def check_autoencoder(name: str) -> None:
    """BadInput where `name` is none, before anything is begun."""
    _class_of(_folder(name), name)


def load_autoencoder(name: str, weights: bool = True) -> Any:
    """The autoencoder called `name`, frozen, in float32: diffusers' `encode(x).latents` and `decode(z).sample`.

    Args:
        name: a folder, or the name of one that was fetched: AutoencoderTiny's, or TAEF2's pair of files.
        weights: False: its shape alone, on torch's present default device.

    Raises:
        BadInput: it is not here, is another kind of model, or cannot be read.
    """
    from safetensors import SafetensorError

    folder = _folder(name)
    kind = _class_of(folder, name)
    try:
        made = _made(folder, kind, weights)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise BadInput(f"{_KEY} = {name!r}: cannot be loaded as {kind or 'TAEF2'}: {first_line(error)}") from error
    factor = _factor(made)
    if factor != FACTOR:
        raise BadInput(f"{_KEY} = {name!r}: latents of 1/{factor} of the side, allowed: 1/{FACTOR}")
    return made.requires_grad_(False).eval()


def convert_taef2(source: Path, out: Path) -> None:
    """Make a folder of diffusers from the published pair taef2_{encoder,decoder}.pth, tensors alone, in `source`.

    Raises:
        BadInput: they are not there, or hold another network.
    """
    import torch

    half: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        file = source / f"taef2_{part}.pth"
        try:
            half[part] = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise BadInput(f"{file}: cannot be read: {first_line(error)}") from error
    try:
        made = _joined(half, weights=True)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise BadInput(f"{source}: holds no TAEF2: {first_line(error)}") from error
    made.half().save_pretrained(out)


def _made(folder: Path, kind: str, weights: bool) -> Any:
    import diffusers
    from safetensors.torch import load_file

    from fedloom.models.generators import pixel_pipeline as known_here  # noqa: F401  makes its class one of diffusers
    from fedloom.models.memory import in_own_memory

    if kind:
        known = getattr(diffusers, kind)
        if weights:
            return in_own_memory(known.from_pretrained(folder)).float()
        return known.from_config(known.load_config(folder))
    return _joined({part: load_file(folder / f"{part}.safetensors") for part in PARTS}, weights)


def _joined(half: Mapping[str, Mapping[str, Any]], weights: bool) -> Any:
    """TAEF2 of the tensors of its two parts."""
    from fedloom.models.generators.pixel_pipeline import PooledTinyAutoencoder

    width, latents = half["encoder"]["0.weight"].shape[0], half["decoder"]["1.weight"].shape[1]
    made: Any = PooledTinyAutoencoder(latents, width)
    if weights:
        made.load_state_dict({f"{part}.{k}": v.float() for part, values in half.items() for k, v in values.items()})
    return made


def _factor(made: Any) -> int:
    """Side of a picture over side of its latents, by its strided convolutions."""
    halved = [getattr(part, "stride", None) == (2, 2) for part in made.encoder.modules()]
    return int(2 ** sum(halved))


def _folder(name: str) -> Path:
    need(_KEY, name)
    folder = found_here(name)
    if folder is None or not folder.is_dir():
        raise BadInput(f"{_KEY} = {name!r}: no such folder here")
    return folder


def _class_of(folder: Path, name: str) -> str:
    """The class that its configuration names; "" of TAEF2's pair of files, which have none."""
    allowed = f"allowed: a folder of {', '.join(_CLASSES)}, or with {' and '.join(_PAIR)}"
    if not (folder / "config.json").is_file():
        if all((folder / file).is_file() for file in _PAIR):
            return ""
        raise BadInput(f"{_KEY} = {name!r}: no autoencoder, {allowed}")
    try:
        found = parse((folder / "config.json").read_bytes(), finite=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{_KEY} = {name!r}: config.json: {first_line(error)}") from None
    kind = found.get("_class_name") if isinstance(found, dict) else None
    if kind not in _CLASSES:
        raise BadInput(f"{_KEY} = {name!r}: holds {kind!r}, {allowed}")
    return str(kind)
