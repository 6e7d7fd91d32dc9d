"""Variants of weights in a diffusers folder: model.fp16.safetensors beside model.safetensors, or in its place."""

from __future__ import annotations

import re
from pathlib import Path

from fedloom.errors import BadInput

_KEY = "server.generator.latent.variant"
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_PLAIN = ("safetensors", "index", "json")


def is_weights(file: Path) -> bool:
    """Whether it is a file of weights, or the index of such files."""
    return ".safetensors" in file.name


def variant_of(name: str) -> str:
    """What stands in the name besides: fp16 of model.fp16.safetensors or model.fp16-00001-of-00002.safetensors."""
    pieces = re.sub(r"-\d+-of-\d+", "", name).split(".")
    return next((piece for piece in pieces[1:] if piece not in _PLAIN), "")


def plain_names(part: Path, variant: str | None) -> dict[str, str]:
    """The files that a part's weights are read from, and their names without variant.

    Args:
        part: a folder such as FOLDER/unet.
        variant: which is read; a part that has none of it is read from its plain files.
    """
    kinds = {file.name: variant_of(file.name) for file in sorted(part.iterdir()) if is_weights(file)}
    read = variant if variant in kinds.values() else ""
    return {
        name: name.replace(f".{read}", "", 1) if read else name
        for name, kind in kinds.items()
        if kind == read
    }


def check_variant(folder: Path, variant: str | None) -> None:
    """BadInput where a part of the pipeline in `folder` has neither weights of that variant nor plain ones."""
    seen = set()
    for part in (folder / name for name in _PARTS):
        kinds = (
            {variant_of(file.name) for file in part.iterdir() if is_weights(file)} if part.is_dir() else set()
        )
        seen |= kinds
        if kinds and not kinds & {variant, ""}:
            raise BadInput(
                f"{part}: no plain weights, {_KEY} = {variant!r}, allowed: {', '.join(sorted(kinds))}"
            )
    if variant and variant not in seen:
        allowed = ", ".join(sorted(seen - {""}) or ["null"])
        raise BadInput(f"{folder}: no part has such weights, {_KEY} = {variant!r}, allowed: {allowed}")
