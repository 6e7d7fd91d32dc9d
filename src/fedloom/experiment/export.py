"""Clients' models as transformers folders, from the files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.numpy import load_file

from fedloom.config import Config
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset
from fedloom.experiment.clients import builder_of
from fedloom.methods.base import load_method
from fedloom.methods.given import GIVEN, completed
from fedloom.models.fit import part_of
from fedloom.tasks import CLIENT_TASKS


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
            told = json.loads((checkpoint / f"{name}.json").read_bytes())["meta"]["context"]["model"]
            tensors = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
            model.load_state_dict(completed(model, tensors, told.get(GIVEN, {})))
            builder.write(model, out / name)
