"""Clients' models as transformers folders, from the files of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from fedloom.config import Config
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset
from fedloom.data.tasks import CLIENT_TASKS
from fedloom.experiment.clients import builder_of
from fedloom.methods.base import load_method
from fedloom.models.clients.client_model import towers
from fedloom.models.clients.preprocessing import ImagePreprocessor
from fedloom.models.fit import part_of


def export_clients(
    config: Config, scene: FederatedDataset, checkpoint: Path, out: Path, tokenizer: Path | None
) -> None:
    """Write every client's model (and tokenizer or picture processor) into `out/CLIENT`.

    This is one machine's convenience: with real silos each exports its own.
    """
    method, _ = load_method(config.method)
    settings = validate(method.settings, config.settings, "settings")
    for task in CLIENT_TASKS:
        for index, name in enumerate(config.clients.names(task)):
            builder = builder_of(config, scene, task, index, str(tokenizer or ""))
            model = method.wrap_model(builder.model(), settings)
            state = part_of(load_file(checkpoint / f"{name}.safetensors"), "context/model/")
            model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
            builder.write(model, out / name)


def write_model(model: Any, class_names: Sequence[str], tokenizer: Any | None, size: int, folder: Path) -> None:
    """Write a client model into `folder`, with its tokenizer and image processor; of two towers, each beside its own.

    tokenizer: None where it reads no texts; size: side of pictures in pixels, 0 where it sees none.
    """
    both = len(towers(model)) > 1
    model.eval().export(folder, tuple(class_names))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder / "text" if both else folder)
    if size:
        own = (getattr(tower, "preprocessor", None) for tower in towers(model))
        eye = next((preprocessor for preprocessor in own if preprocessor), ImagePreprocessor(size, size))
        _picture_processor(eye).save_pretrained(folder / "image" if both else folder)


def _picture_processor(preprocessor: ImagePreprocessor) -> Any:
    """Pictures as the client's model was shown them."""
    from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

    facts = preprocessor.processor()
    kind = {"ViTImageProcessor": ViTImageProcessorPil, "CLIPImageProcessor": CLIPImageProcessorPil}
    return kind[facts.pop("image_processor_type")](**facts)
