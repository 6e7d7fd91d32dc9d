"""The sizes of a model, as published or by the configuration in its folder: enough to count it. Light: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, nearest
from fedloom.strict_json import parse
from fedloom.weights.catalogue import Shape, source_of, sources
from fedloom.weights.place import found_here

LATENT, GLIDE, INCEPTION, PIXEL = "stable-diffusion", "glide", "inception", "pixel"


_PARTS = ("unet", "vae", "autoencoder", "text_encoder", "text_encoder_2", "upsampler", "upsampler_text_encoder")
_PIPELINES = {
    "StableDiffusionPipeline": LATENT,
    "StableDiffusionXLPipeline": LATENT,
    "GlidePipeline": GLIDE,
    "PixelTextToImagePipeline": PIXEL,
}


def shape_of(name: str, key: str = "pretrained") -> Shape:
    """The sizes of the model called `name`: by the configuration in its folder where it is here, else as published.

    Args:
        name: a folder, or a hub name; what is in the hub's cache is here too.
        key: the setting that names it ("server.clip"), for the message.

    Raises:
        BadInput: a folder without a configuration, or a name that is neither here nor on the list.
    """
    folder, published = found_here(name), source_of(name).shape
    if folder is not None and folder.is_dir():
        return _in_folder(folder, key, published)
    if published is not None:
        return published
    raise BadInput(
        f"{key} = {name!r}: no folder here, and its sizes are not known.{nearest(name, sources())} "
        f"Allowed: a folder, or one of {', '.join(sorted(sources()))}"
    )


def _in_folder(folder: Path, key: str, published: Shape | None) -> Shape:
    if (folder / "model_index.json").is_file():
        name = _read(folder / "model_index.json", key).get("_class_name")
        if name not in _PIPELINES:
            raise BadInput(f"{key}: {folder} holds a {name!r}, allowed: {', '.join(_PIPELINES)}")
        files = {part: folder / part / "config.json" for part in _PARTS}
        parts = {part: _read(file, key) for part, file in files.items() if file.is_file()}
        return Shape(_PIPELINES[str(name)], parts=parts)
    if not (folder / "config.json").is_file() and published is not None:
        return published  # weights alone, of a network that knows its own sizes
    config = _read(folder / "config.json", key)
    if "model_type" not in config:
        raise BadInput(f"{key}: {folder / 'config.json'} names no model_type")
    return Shape(str(config["model_type"]), config)


def _read(file: Path, key: str) -> dict[str, Any]:
    try:
        found = parse(file.read_bytes(), finite=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{key}: {file} cannot be read: {getattr(error, 'strerror', None) or 'no JSON'}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{key}: {file} holds a {type(found).__name__}, expected an object")
    return found
