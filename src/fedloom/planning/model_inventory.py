"""The models of a run, of clients and server, each with its size, its load and its device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fedloom.config import Config
from fedloom.config.models import ModelSettings
from fedloom.data.sizes import DataSizes
from fedloom.errors import BadInput
from fedloom.experiment.checks import reads_captions
from fedloom.experiment.clients import server_settings
from fedloom.methods.base import Method
from fedloom.methods.workload import Workload
from fedloom.planning.client_models import StandInTokenizer, model_load, model_on_meta
from fedloom.planning.generators import generator_cost
from fedloom.planning.server import (
    GeneratorCost,
    ModelCost,
    captioner_cost,
    clip_cost,
    features_cost,
    judge_cost,
    model_cost,
)
from fedloom.tasks import CLIENT_TASKS, ClientTask


@dataclass(frozen=True)
class Member:
    """A client: its modality, its model, and the device it lives on."""

    name: str
    modality: ClientTask
    model: ModelCost
    device: str


@dataclass(frozen=True)
class ModelInventory:
    """The models of a run. task_models: the server's own. generator and all after it: None where the run needs none."""

    clients: tuple[Member, ...]
    task_models: tuple[ModelCost, ...] = ()
    generator: GeneratorCost | None = None
    captioner: ModelCost | None = None
    clip: ModelCost | None = None
    judge: ModelCost | None = None
    features: ModelCost | None = None

    @property
    def server(self) -> tuple[ModelCost, ...]:
        """The server's models."""
        drawing = self.generator.models if self.generator is not None else ()
        rest = (self.captioner, self.clip, self.judge, self.features)
        return (*drawing, *(p for p in rest if p is not None), *self.task_models)


def inventory_of(config: Config, method: Method, settings: Any, work: Workload, scene: DataSizes) -> ModelInventory:
    """The models of a run whose configuration is complete (`resolve.completed`), as `build` would load them."""
    tokenizer = StandInTokenizer(config.server.vocabulary, config.server.tokens)
    uses = method.needs(settings)
    clients = _clients(config, method, settings, scene) if method.tasks else ()
    task_models = _server_task_models(config, work, scene) if "models" in uses else ()
    if "generator" not in uses:
        return ModelInventory(clients, task_models)
    network = config.evaluation.features
    features = features_cost(network) if network else None
    clip, tower = clip_cost(config, scene, tokenizer)
    wanted = "captioner" in uses and reads_captions(config, method, settings)
    return ModelInventory(
        clients,
        task_models,
        generator_cost(config, tokenizer, scene, tower, work.generator_steps > 0),
        captioner_cost(config, scene, tokenizer) if wanted else None,
        clip,
        judge_cost(config, scene),
        features,
    )


def _clients(config: Config, method: Method, settings: Any, scene: DataSizes) -> tuple[Member, ...]:
    known: dict[tuple[str, str], ModelCost] = {}
    found: list[Member] = []
    for modality in CLIENT_TASKS:
        for name, own in zip(config.clients.names(modality), config.clients.models(modality)):
            key = (modality, own.model_dump_json())
            if key not in known:
                words = _words(config, own)
                known[key] = _task_model(f"{modality} client", own, scene, words, modality, method, settings)
            device = config.clients.devices[len(found) % len(config.clients.devices)]
            found.append(Member(name, modality, known[key], device))
    return tuple(found)


def _words(config: Config, own: ModelSettings) -> StandInTokenizer:
    """The public tokenizer, or the one that comes with pretrained weights, as far as a plan needs it."""
    longest = config.clients.tokens if own.pretrained else None
    return StandInTokenizer(config.server.vocabulary, longest or config.server.tokens)


def _task_model(
    role: str,
    own: ModelSettings,
    scene: DataSizes,
    tokenizer: StandInTokenizer,
    modality: ClientTask,
    method: Method | None = None,
    settings: Any = None,
) -> ModelCost:
    """What a task model costs; with a method, with the parts that it adds."""
    from fedloom.models.clients.client_model import towers

    model: nn.Module = model_on_meta(
        own, scene, tokenizer, f"clients.{modality}", modality == ClientTask.MULTIMODAL_CLASSIFICATION
    )
    if method is not None:
        with torch.device("meta"):
            model = method.wrap_model(model, settings)
    load = model_load(model, own, scene, tokenizer)
    made = model_cost(role, model, own.pretrained, load, trained=True)
    kind = "+".join(type(getattr(tower, "backbone", tower)).__name__ for tower in towers(model))
    return replace(made, kind=kind if own.tune == "all" else f"{kind}, {own.tune}")


def _server_task_models(config: Config, work: Workload, scene: DataSizes) -> tuple[ModelCost, ...]:
    """The task models on the server; what it only keeps the mean in is not trained."""
    found = []
    for modality in CLIENT_TASKS:
        if modality == ClientTask.RETRIEVAL or not config.clients.models(modality):
            continue
        try:
            own = server_settings(config, modality)
        except BadInput:
            continue  # a method that needs it will say so
        words = _words(config, own)
        made = _task_model(f"server's {modality} model", own, scene, words, modality)
        found.append(made if work.server_steps else replace(made, trained=0))
    return tuple(found)
