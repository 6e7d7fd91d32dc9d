"""Who takes part in a run: clients and the server's models, each with its size, its load and its place."""

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
from fedloom.planning.client_models import Words, model_load, model_on_meta
from fedloom.planning.generators import drawer
from fedloom.planning.server import (
    GeneratorCost,
    Piece,
    captioner_piece,
    clip_piece,
    features_piece,
    judge_piece,
    piece,
)
from fedloom.tasks import CLIENT_TASKS, ClientTask


@dataclass(frozen=True)
class Member:
    """A client: its modality, its model, and the device it lives on."""

    name: str
    modality: ClientTask
    model: Piece
    device: str


@dataclass(frozen=True)
class ModelInventory:
    """Everybody. drawer: the generator; captioner, clip, judge, features: None where the run has no use for one."""

    clients: tuple[Member, ...]
    learners: tuple[Piece, ...] = ()
    drawer: GeneratorCost | None = None
    captioner: Piece | None = None
    clip: Piece | None = None
    judge: Piece | None = None
    features: Piece | None = None

    @property
    def server(self) -> tuple[Piece, ...]:
        """The server's models."""
        drawing = self.drawer.pieces if self.drawer is not None else ()
        rest = (self.captioner, self.clip, self.judge, self.features)
        return (*drawing, *(p for p in rest if p is not None), *self.learners)


def cast_of(config: Config, method: Method, settings: Any, work: Workload, scene: DataSizes) -> ModelInventory:
    """The models of a run whose configuration is complete (`resolve.completed`), as `build` would load them."""
    words = Words(config.server.vocabulary, config.server.tokens)
    uses = method.needs(settings)
    clients = _clients(config, method, settings, scene, words) if method.tasks else ()
    learners = _own_learners(config, work, scene, words) if "learners" in uses else ()
    if "generator" not in uses:
        return ModelInventory(clients, learners)
    network = config.evaluation.features
    features = features_piece(network) if network else None
    clip, tower = clip_piece(config, scene, words)
    wanted = "captioner" in uses and reads_captions(config, method, settings)
    return ModelInventory(
        clients,
        learners,
        drawer(config, words, scene, tower, work.generator_steps > 0),
        captioner_piece(config, scene, words) if wanted else None,
        clip,
        judge_piece(config, scene),
        features,
    )


def _clients(config: Config, method: Method, settings: Any, scene: DataSizes, words: Words) -> tuple[Member, ...]:
    known: dict[tuple[str, str], Piece] = {}
    found: list[Member] = []
    for modality in CLIENT_TASKS:
        for name, own in zip(config.clients.names(modality), config.clients.learners(modality)):
            key = (modality, own.model_dump_json())
            if key not in known:
                known[key] = _learner(f"{modality} client", own, scene, words, modality, method, settings)
            device = config.clients.devices[len(found) % len(config.clients.devices)]
            found.append(Member(name, modality, known[key], device))
    return tuple(found)


def _learner(
    role: str,
    own: ModelSettings,
    scene: DataSizes,
    words: Words,
    modality: ClientTask,
    method: Method | None = None,
    settings: Any = None,
) -> Piece:
    """A task model as a piece; with a method, with what that puts on it."""
    from fedloom.models.clients.client_model import towers

    model: nn.Module = model_on_meta(
        own, scene, words, f"clients.{modality}", modality == ClientTask.MULTIMODAL_CLASSIFICATION
    )
    if method is not None:
        with torch.device("meta"):
            model = method.wrap_model(model, settings)
    load = model_load(model, own, scene, words)
    made = piece(role, model, own.pretrained, load, trained=True)
    kind = "+".join(type(getattr(tower, "backbone", tower)).__name__ for tower in towers(model))
    return replace(made, kind=kind if own.tune == "all" else f"{kind}, {own.tune}")


def _own_learners(config: Config, work: Workload, scene: DataSizes, words: Words) -> tuple[Piece, ...]:
    """The task models on the server; what it only keeps the mean in is not trained."""
    found = []
    for modality in CLIENT_TASKS:
        if modality == ClientTask.RETRIEVAL or not config.clients.learners(modality):
            continue
        try:
            own = server_settings(config, modality)
        except BadInput:
            continue  # a method that needs it will say so
        made = _learner(f"server's {modality} model", own, scene, words, modality)
        found.append(made if work.server_steps else replace(made, trained=0))
    return tuple(found)
