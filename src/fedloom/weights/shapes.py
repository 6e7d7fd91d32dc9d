"""The sizes of published models by hub name, and of what lies in a folder: enough to count them, without weights.

Each configuration is the config.json of that name, as far as it changes a weight's shape. Light: imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, nearest
from fedloom.weights.place import found_here

LATENT, GLIDE, INCEPTION, PIXEL = "stable-diffusion", "glide", "inception", "pixel"


@dataclass(frozen=True)
class Shape:
    """What a model is built from.

    kind: transformers' model_type, or one of LATENT, GLIDE, PIXEL, INCEPTION.
    config: of a model in one part.  parts: of a pipeline, part -> configuration.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_SIDE = {"image_size": 224, "num_channels": 3}
_CLIP_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "projection_dim": 512,
}

SHAPES: Mapping[str, Shape] = {
    "google/vit-base-patch32-224-in21k": Shape("vit", {**_BASE, **_SIDE, "patch_size": 32}),
    "google/vit-base-patch16-224": Shape("vit", {**_BASE, **_SIDE, "patch_size": 16}),
    "microsoft/beit-base-patch16-224": Shape(
        "beit",
        {
            **_BASE,
            **_SIDE,
            "patch_size": 16,
            "use_relative_position_bias": True,
            "use_shared_relative_position_bias": False,
            "use_absolute_position_embeddings": False,
            "use_mask_token": False,
            "use_mean_pooling": True,
            "layer_scale_init_value": 0.1,
        },
    ),
    "microsoft/resnet-18": Shape(
        "resnet",
        {
            "num_channels": 3,
            "embedding_size": 64,
            "hidden_sizes": [64, 128, 256, 512],
            "depths": [2, 2, 2, 2],
            "layer_type": "basic",
        },
    ),
    "google-bert/bert-base-uncased": Shape(
        "bert", {**_BASE, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2}
    ),
    "distilbert/distilbert-base-uncased": Shape(
        "distilbert",
        {
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "dim": 768,
            "hidden_dim": 3072,
            "n_layers": 6,
            "n_heads": 12,
        },
    ),
    "FacebookAI/roberta-base": Shape(
        "roberta",
        {
            **_BASE,
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "pad_token_id": 1,
        },
    ),
    "Salesforce/blip-image-captioning-base": Shape(
        "blip",
        {
            "projection_dim": 512,
            "text_config": {**_BASE, "vocab_size": 30524, "max_position_embeddings": 512},
            "vision_config": {**_BASE, "image_size": 384, "patch_size": 16},
        },
    ),
    "openai/clip-vit-base-patch32": Shape(
        "clip",
        {
            "projection_dim": 512,
            "text_config": _CLIP_TEXT,
            "vision_config": {**_BASE, **_SIDE, "patch_size": 32, "projection_dim": 512},
        },
    ),
    "openai/glide": Shape(GLIDE),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Shape(LATENT),
    # 5.71 GMAC a picture of 299 pixels. Trunk 21 785 568 (torchvision's 27 161 264 without both its classifiers), and
    # FID's own last layer, 2048 to 1008.
    "fid/inception-v3": Shape(INCEPTION, {"parameters": 23_850_960, "forward": 11.42e9}),
}

_PARTS = (
    *("unet", "vae", "text_encoder", "text_encoder_2"),
    *("upsampler", "upsampler_text_encoder"),
)
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
        key: where it is asked for ("server.clip"), for the message.

    Raises:
        BadInput: a folder without a configuration, or a name that is neither here nor on the list.
    """
    folder = found_here(name)
    if folder is not None and folder.is_dir():
        return _in_folder(folder, key, SHAPES.get(name))
    if name in SHAPES:
        return SHAPES[name]
    raise BadInput(
        f"{key} = {name!r}: no folder here, and its sizes are not known.{nearest(name, SHAPES)} "
        f"Allowed: a folder, or one of {', '.join(sorted(SHAPES))}"
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
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{key}: {file} cannot be read: {getattr(error, 'strerror', None) or 'no JSON'}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{key}: {file} holds a {type(found).__name__}, expected an object")
    return found
