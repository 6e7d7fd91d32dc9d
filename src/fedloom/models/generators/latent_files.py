"""Stable Diffusion folders: which are understood, how they are loaded, how a tuned one is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput, first_line
from fedloom.models.device import DTYPES
from fedloom.models.generators.conditioned import without_place, write_bridge
from fedloom.models.generators.latent_schedule import prediction_of
from fedloom.models.generators.latent_sizes import put_lora as put_lora
from fedloom.models.generators.latent_variants import check_variant, copy_part, variant_in
from fedloom.models.memory import in_own_memory
from fedloom.strict_json import parse
from fedloom.weights import hub_arguments, need, placed

CLASSES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
FACTORS = "pytorch_lora_weights.safetensors"  # where diffusers' load_lora_weights looks
_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


def resolve(settings: LatentSettings) -> Path:
    """The folder that `pretrained` is, that was fetched under its name, or that the hub's cache has for it.

    Without a revision it is the pinned one; what was fetched is of no other.
    """
    from diffusers import DiffusionPipeline

    name, revision = settings.pretrained, settings.revision
    place = Path(name if revision else placed(name))
    if place.is_dir():
        return place
    need("server.generator", name)
    try:
        found = DiffusionPipeline.download(
            name,
            use_safetensors=True,
            safety_checker=None,
            variant=settings.variant,
            **(hub_arguments(name) | ({"revision": revision, "local_files_only": True} if revision else {})),
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"generator {name!r}: no such folder, nor in the hub's cache: {first_line(error)}") from error
    return Path(found)


def load_pipeline(folder: Path, settings: LatentSettings) -> Any:
    """The pipeline in a folder, without safety checker, on the CPU.

    Raises:
        BadInput: not such a folder, of another family, or damaged.
    """
    import diffusers

    name = _index(folder)["_class_name"]
    check_variant(folder, settings.variant)
    dtype = DTYPES[settings.precision]
    # fp16 is not trained, and LoRA's base neither; whatever is trained needs all bits of its small steps
    trained = torch.float32 if settings.train == "unet" and settings.precision != "fp16" else dtype
    options: dict[str, Any] = dict.fromkeys(_LEFT_OUT)
    if name == CLASSES[0]:
        options["requires_safety_checker"] = False
    else:
        del options["safety_checker"]
        options["add_watermarker"] = False
    try:
        pipe = getattr(diffusers, name).from_pretrained(
            str(folder),
            # The VAE overflows in fp16 (XL), and in bf16 a step of its pictures is a step of uint8.
            torch_dtype={"default": dtype, "unet": trained, "vae": torch.float32},
            local_files_only=True,
            use_safetensors=True,
            variant=settings.variant,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise BadInput(f"{folder}: cannot be loaded as {name}: {first_line(error)}") from error
    _check(pipe, folder)
    return in_own_memory(pipe)


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    try:
        index = parse(file.read_bytes(), finite=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: expected a diffusers folder, model_index.json: {first_line(error)}") from error
    if not isinstance(index, dict) or index.get("_class_name") not in CLASSES:
        said = index.get("_class_name") if isinstance(index, dict) else index
        raise BadInput(f"{file}: _class_name {said!r}, allowed: {', '.join(CLASSES)}")
    return index


def _check(pipe: Any, folder: Path) -> None:
    """BadInput where the parts do not make a text-to-image model of latents."""
    needed = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"]
    xl = type(pipe).__name__ == CLASSES[1]
    for part in needed + (["text_encoder_2", "tokenizer_2"] if xl else []):
        if getattr(pipe, part, None) is None:
            raise BadInput(f"{folder}: without {part}")
    unet, vae = pipe.unet.config, pipe.vae.config
    channels = getattr(vae, "latent_channels", None)
    if not unet.in_channels == unet.out_channels == channels:
        raise BadInput(
            f"{folder}: the UNet reads {unet.in_channels} and writes {unet.out_channels} channels, the VAE has "
            f"{channels}; allowed: one number (no inpainting, no upscaling)"
        )
    if not isinstance(unet.sample_size, int):
        raise BadInput(f"{folder}: sample_size {unet.sample_size}, allowed: one number (square pictures)")
    if xl:
        said = 6 * (unet.addition_time_embed_dim or 0) + pipe.text_encoder_2.config.projection_dim
        if said != unet.projection_class_embeddings_input_dim:
            raise BadInput(
                f"{folder}: the UNet takes {unet.projection_class_embeddings_input_dim} numbers of pooled text and "
                f"sizes, this pipeline gives {said} (XL's base, not its refiner)"
            )
    prediction_of(pipe.scheduler)


# ------------------------------------------------------------------------------------------------------------ LoRA


def factors_of(unet: Any) -> dict[str, Tensor]:
    """LoRA's factors by peft's names."""
    from peft.utils import get_peft_model_state_dict

    return {k: v.detach().float().cpu().contiguous() for k, v in get_peft_model_state_dict(unet).items()}


def take_factors(unet: Any, factors: dict[str, Tensor], merge: bool) -> None:
    """Put factors into a UNet that has those of the same rank (`put_lora`), or merge them into a plain one."""
    from peft.utils import set_peft_model_state_dict

    if merge:
        rank = next(len(v) for k, v in factors.items() if "lora_A" in k)
        put_lora(unet, rank, seed=0)
    set_peft_model_state_dict(unet, factors)
    if merge:
        unet.fuse_lora()
        unet.unload_lora()
        unet.requires_grad_(True)


def read_factors(folder: Path, settings: LatentSettings) -> dict[str, Tensor] | None:
    """The factors beside a saved pipeline, or None. BadInput where they have another rank than is to be trained."""
    file = folder / FACTORS
    if not file.exists():
        return None
    factors = {k.removeprefix("unet."): v for k, v in load_file(file).items()}
    ranks = {len(v) for k, v in factors.items() if "lora_A" in k}
    if len(ranks) != 1 or (settings.train == "lora" and ranks != {settings.rank}):
        raise BadInput(f"{file}: factors of rank {sorted(ranks)}, this run wants {settings.rank}")
    return factors


# ------------------------------------------------------------------------------------------------------------ save


def write_folder(
    source: Path,
    folder: Path,
    unet: Any,
    factors: dict[str, Tensor] | None,
    bridge: nn.Linear,
    merge: bool,
    variant: str | None = None,
) -> None:
    """A stock diffusers folder: the frozen parts as the source has them (`copy_part`), the UNet as it is now.

    Args:
        source: the folder that the pipeline was loaded from.
        folder: is made; not the source.
        unet: the tuned UNet, or, with factors, anything.
        factors: LoRA's, or None where the whole UNet was tuned.
        bridge: W_r (w, D).
        merge: write factors into the UNet's weights (float32); otherwise beside the source's UNet.
        variant: which of the source's weights were loaded.
    """
    from diffusers import UNet2DConditionModel

    if folder.resolve() == source.resolve():
        raise BadInput(f"{folder}: is where the generator was loaded from, save it elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    index = _index(source)
    index = {k: [None, None] if k in _LEFT_OUT else v for k, v in index.items() if k != "_name_or_path"}
    if index["_class_name"] == CLASSES[0]:
        index["requires_safety_checker"] = False
    parts = [k for k, v in index.items() if isinstance(v, list) and v[0] and (source / k).is_dir()]
    beside = factors is not None and not merge
    for part in parts:
        if part != "unet" or beside:
            copy_part(source / part, folder / part, variant)
    if factors is not None and merge:
        how = {"torch_dtype": torch.float32, "use_safetensors": True, "variant": variant_in(source / "unet", variant)}
        unet = UNet2DConditionModel.from_pretrained(source / "unet", **how)
        take_factors(unet, factors, merge=True)
    if factors is not None and not merge:
        save_file({f"unet.{k}": v for k, v in factors.items()}, folder / FACTORS, metadata={"format": "pt"})
    else:
        (folder / FACTORS).unlink(missing_ok=True)
        unet.save_pretrained(folder / "unet")
        without_place(folder / "unet")
    write_bridge(bridge, folder)
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
