"""Numbers of parameters of a Stable Diffusion, by part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedloom.models.generators.latent_sizes import add_lora, part_on_meta


def folder_configs(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Part -> configuration, of the parts with weights in a diffusers folder."""
    files = {part: Path(folder) / part / "config.json" for part in ("unet", "vae", "text_encoder", "text_encoder_2")}
    return {part: json.loads(file.read_text()) for part, file in files.items() if file.is_file()}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


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
