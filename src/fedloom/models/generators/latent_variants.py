"""Variants of weights in a diffusers folder: model.fp16.safetensors beside model.safetensors, or in its place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedloom.errors import BadInput

_KEY = "server.generator.latent.variant"
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_COPIED = {".json", ".txt", ".model"}  # beside weights, which are safetensors
_PLAIN = ("safetensors", "index", "json")


def variant_of(name: str) -> str:
    """What stands in the name besides: fp16 of model.fp16.safetensors or model.fp16-00001-of-00002.safetensors."""
    pieces = re.sub(r"-\d+-of-\d+", "", name).split(".")
    return next((piece for piece in pieces[1:] if piece not in _PLAIN), "")


def weights_of(part: Path, variant: str | None) -> list[Path]:
    """The files, an index among them, that a part's weights are read from.

    Args:
        part: a folder such as FOLDER/unet.
        variant: which is read; a part that has none of it is read from its plain files.
    """
    read = variant_in(part, variant) or ""
    return [file for file in _weights(part) if variant_of(file.name) == read]


def variant_in(part: Path, variant: str | None) -> str | None:
    """The variant, where the part has weights of it; else None."""
    return variant if variant in {variant_of(file.name) for file in _weights(part)} else None


def copy_part(source: Path, folder: Path, variant: str | None) -> None:
    """A part's files, without pickles, and of its weights those that were loaded, under their plain name.

    Weights in fp32 are copied byte for byte; others become fp32, in one file, and no configuration says half: the UNet
    that is written beside them is fp32, and transformers would load each part as it lies.
    """
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.suffix in _COPIED and not _is_weights(file):
            shutil.copyfile(file, folder / file.name)
    _say_whole(folder / "config.json")
    files = weights_of(source, variant)
    shards = [file for file in files if file.suffix != ".json"]
    if not variant_in(source, variant) and all(_whole(file) for file in shards):
        for file in files:
            shutil.copyfile(file, folder / file.name)
        return
    weights = {k: v for file in shards for k, v in load_file(file).items()}
    weights = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    name = re.split(r"[.]|-\d+-of", shards[0].name)[0]
    save_file(weights, folder / f"{name}.safetensors", metadata={"format": "pt"})


def _whole(file: Path) -> bool:
    """Whether no weight is in half precision."""
    with safe_open(file, "pt") as content:
        return not any(content.get_slice(k).get_dtype() in ("F16", "BF16") for k in content.keys())  # noqa: SIM118


def _say_whole(config: Path) -> None:
    """Take half precision out of a part's configuration, which need not say what its weights are."""
    facts = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    kept = {k: v for k, v in facts.items() if k not in ("dtype", "torch_dtype") or v == "float32"}
    if kept != facts:
        config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _is_weights(file: Path) -> bool:
    return ".safetensors" in file.name


def _weights(part: Path) -> list[Path]:
    return sorted(file for file in part.iterdir() if _is_weights(file))


def check_variant(folder: Path, variant: str | None) -> None:
    """BadInput where a part of the pipeline in `folder` has neither weights of that variant nor plain ones."""
    seen = set()
    for part in (folder / name for name in _PARTS):
        kinds = {variant_of(file.name) for file in _weights(part)} if part.is_dir() else set()
        seen |= kinds
        if kinds and not kinds & {variant, ""}:
            raise BadInput(f"{part}: no plain weights, {_KEY} = {variant!r}, allowed: {', '.join(sorted(kinds))}")
    if variant and variant not in seen:
        allowed = ", ".join(sorted(seen - {""}) or ["null"])
        raise BadInput(f"{folder}: no part has such weights, {_KEY} = {variant!r}, allowed: {allowed}")
