"""Clients' models as transformers folders, from the files of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from fedloom.config import Config, validate
from fedloom.data.scene import Scene
from fedloom.methods.base import load_method
from fedloom.models.learner import build_learner
from fedloom.pretraining import load_tokenizer
from fedloom.sites import MODALITIES, client_names, side_of


def export_clients(config: Config, scene: Scene, checkpoint: Path, out: Path, tokenizer: Path) -> None:
    """Write every client's model (and tokenizer or picture processor) into `out/CLIENT`.

    This is one machine's convenience: with real silos each exports its own.
    """
    method, _ = load_method(config.method)
    method_settings = validate(method.settings, config.settings, "settings")
    names, size = client_names(config), side_of(scene)
    for modality in MODALITIES:
        for name, settings in zip(names[modality], config.clients.learners(modality)):
            words = load_tokenizer(tokenizer)
            learner: Any = build_learner(settings, classes=scene.classes, image_size=size, tokenizer=words)
            tensors = load_file(checkpoint / f"{name}.safetensors")
            learner = method.dress(learner, method_settings)
            learner.load_state_dict(
                {
                    k.removeprefix("learner."): torch.from_numpy(v.copy())
                    for k, v in tensors.items()
                    if k.startswith("learner.")
                }
            )
            shown = words if modality == "text" else None
            write_learner(learner, scene.class_names, shown, size, out / name)


def write_learner(
    learner: Any, class_names: Sequence[str], tokenizer: Any | None, size: int, folder: Path
) -> None:
    """Write one learner into `folder`, with its tokenizer or, without one, a processor for pictures of side `size`."""
    learner.eval().export(folder, tuple(class_names))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    else:
        _picture_processor(size).save_pretrained(folder)


def _picture_processor(size: int) -> Any:
    """Pixels to [-1, 1] at the model's side, as the clients were trained."""
    from transformers import ViTImageProcessorPil

    half = [0.5, 0.5, 0.5]
    return ViTImageProcessorPil(size={"height": size, "width": size}, image_mean=half, image_std=half)
