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
from fedloom.data.tasks import CLIENT_TASKS, ClientTask, Modality
from fedloom.experiment.client_parts import folder_of, picture_side, reads, site_tokenizer
from fedloom.methods.base import load_method
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.client_model import towers
from fedloom.models.clients.preprocessing import ImagePreprocessor


def export_clients(
    config: Config, scene: FederatedDataset, checkpoint: Path, out: Path, tokenizer: Path | None
) -> None:
    """Write every client's model (and tokenizer or picture processor) into `out/CLIENT`.

    This is one machine's convenience: with real silos each exports its own.
    """
    method, _ = load_method(config.method)
    method_settings = validate(method.settings, config.settings, "settings")
    size = picture_side(scene)
    for modality in CLIENT_TASKS:
        for name, settings in zip(config.clients.names(modality), config.clients.learners(modality)):
            words = site_tokenizer(settings, folder_of(tokenizer), config.server.tokens)
            names_of = scene.names_of(modality)
            streams = scene.modalities if modality == ClientTask.MULTIMODAL_CLASSIFICATION else ()
            learner: Any = build_client_model(
                settings, classes=len(names_of), image_size=size, tokenizer=words, streams=streams
            )
            tensors = load_file(checkpoint / f"{name}.safetensors")
            learner = method.wrap_model(learner, method_settings)
            learner.load_state_dict(
                {
                    k.removeprefix("context/model/"): torch.from_numpy(v.copy())
                    for k, v in tensors.items()
                    if k.startswith("context/model/")
                }
            )
            shown = words if modality != ClientTask.IMAGE_CLASSIFICATION else None
            side = size if Modality.IMAGE in reads(modality, scene.modalities) else 0
            write_learner(learner, names_of, shown, side, out / name)


def write_learner(learner: Any, class_names: Sequence[str], tokenizer: Any | None, size: int, folder: Path) -> None:
    """Write one learner into `folder`, with what it reads texts and pictures by; of two towers, each beside its own.

    tokenizer: None where it reads no texts; size: side of pictures in pixels, 0 where it sees none.
    """
    both = len(towers(learner)) > 1
    learner.eval().export(folder, tuple(class_names))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder / "text" if both else folder)
    if size:
        own = (getattr(tower, "preprocessor", None) for tower in towers(learner))
        eye = next((preprocessor for preprocessor in own if preprocessor), ImagePreprocessor(size, size))
        _picture_processor(eye).save_pretrained(folder / "image" if both else folder)


def _picture_processor(preprocessor: ImagePreprocessor) -> Any:
    """Pictures as the client's model was shown them."""
    from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

    facts = preprocessor.processor()
    kind = {"ViTImageProcessor": ViTImageProcessorPil, "CLIPImageProcessor": CLIPImageProcessorPil}
    return kind[facts.pop("image_processor_type")](**facts)
