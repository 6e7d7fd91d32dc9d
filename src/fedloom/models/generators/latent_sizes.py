"""The published families of Stable Diffusion, and their parts on torch's meta device, where no weight takes memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fedloom.errors import unknown
from fedloom.seeding import global_torch_stream

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # what LoRA's factors are put on

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


def part_on_meta(part: str, config: Mapping[str, Any]) -> Any:
    """The part without memory for its weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        if part == "unet":
            return UNet2DConditionModel.from_config(dict(config))
        if part == "autoencoder":
            from fedloom.models.generators.autoencoder import shape_of_config

            return shape_of_config(config)
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


def put_lora(unet: Any, rank: int, seed: int) -> None:
    """LoRA's factors on the UNet's attention, float32 whatever the base is. Named streams draw them."""
    with global_torch_stream(seed, "generator", "lora"):
        add_lora(unet, rank)
    for p in unet.parameters():
        if p.requires_grad:
            p.data = p.data.float()
