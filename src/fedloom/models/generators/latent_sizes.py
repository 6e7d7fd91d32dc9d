"""What a Stable Diffusion server weighs: parameters by part, and bytes, counted on torch's meta device.

Nothing is downloaded and no weight takes memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedloom.errors import BadInput, unknown

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # what LoRA's factors are put on
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

_UNET = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
# The families as they were published (config.json of each part), as far as it changes a count.
FAMILIES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sd-1.5": {"unet": {**_UNET, "attention_head_dim": 8}, "vae": _VAE, "text_encoder": _CLIP_L},
    "sd-2.1": {
        "unet": {
            **_UNET,
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        "vae": _VAE,
        "text_encoder": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
        },
    },
    "sd-xl": {
        "unet": {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae": _VAE,
        "text_encoder": _CLIP_L,
        "text_encoder_2": {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "projection_dim": 1280,
        },
    },
}


def family_configs(name: str) -> Mapping[str, Mapping[str, Any]]:
    """Part -> configuration of a published family: sd-1.5, sd-2.1 or sd-xl."""
    if name not in FAMILIES:
        raise unknown("family of Stable Diffusion", name, FAMILIES)
    return FAMILIES[name]


def folder_configs(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Part -> configuration, of the parts with weights in a diffusers folder."""
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    files = {part: Path(folder) / part / "config.json" for part in parts}
    found = {part: json.loads(file.read_text()) for part, file in files.items() if file.is_file()}
    if not {"unet", "vae", "text_encoder"} <= set(found):
        raise BadInput(f"{folder}: expected a diffusers folder with unet, vae and text_encoder")
    return found


def counts(configs: Mapping[str, Mapping[str, Any]], lora: int | None = None) -> dict[str, int]:
    """Part -> number of parameters; with a rank `lora` also "lora", that of the factors on the UNet's attention."""
    found = {}
    for part, config in configs.items():
        module = part_on_meta(part, config)
        found[part] = count(module)
        if part == "unet" and lora is not None:
            with torch.device("meta"):
                add_lora(module, lora)
            found["lora"] = count(module) - found[part]
    return found


def part_on_meta(part: str, config: Mapping[str, Any]) -> Any:
    """The part without memory for its weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        if part == "unet":
            return UNet2DConditionModel.from_config(dict(config))
        if part == "vae":
            return AutoencoderKL.from_config(dict(config))
        shape = CLIPTextConfig(**{k: v for k, v in config.items() if k != "dtype"})
        return CLIPTextModelWithProjection(shape) if part == "text_encoder_2" else CLIPTextModel(shape)


def add_lora(unet: Any, rank: int) -> None:
    """Put LoRA's factors, W + B A with B zero at first, on the UNet's attention. Draws A from torch's global stream.

    All else is frozen by it (LoRA: Hu et al., arXiv 2106.09685).
    """
    from peft import LoraConfig

    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ATTENTION)))


def count(module: nn.Module, trainable: bool = False) -> int:
    """Number of parameters, or of those that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def weight_bytes(module: nn.Module) -> dict[str, int]:
    """Bytes of the weights by dtype ("float32")."""
    found: Counter[str] = Counter()
    for p in module.parameters():
        found[str(p.dtype).removeprefix("torch.")] += p.numel() * p.element_size()
    return dict(found)


def resident_bytes(parts: Mapping[str, int], precision: str, training: bool = True) -> dict[str, int]:
    """Bytes that weights, gradients and Adam's moments take on the device. Activations come on top.

    Args:
        parts: `counts`; with "lora" among them the factors are trained, otherwise the UNet.
        precision: fp32, fp16 or bf16: of what is frozen, the VAE excepted. What is trained is fp32.
        training: False: weights only.

    Returns:
        "weights", "gradients", "moments" and their sum "all".

    Raises:
        BadInput: no such precision, or training in fp16.
    """
    if precision not in BYTES:
        raise unknown("precision", precision, BYTES)
    if training and precision == "fp16":
        raise BadInput("precision fp16 draws only, allowed for training: fp32, bf16")
    trained = "lora" if "lora" in parts else "unet"
    full = {"vae"} if precision == "fp16" else {trained, "vae"}
    weights = sum(n * (4 if part in full else BYTES[precision]) for part, n in parts.items())
    gradients = 4 * parts[trained] if training else 0
    moments = 2 * gradients
    return {
        "weights": weights,
        "gradients": gradients,
        "moments": moments,
        "all": weights + gradients + moments,
    }
