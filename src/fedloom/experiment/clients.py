"""Clients built from the configuration: the factory that every engine calls at a site, and the warm start."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedloom.config import Config
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.data.containers import ClientData, FederatedDataset
from fedloom.data.corruption import corrupt
from fedloom.data.joint import MultimodalSamples
from fedloom.data.pairs import ImageTextPairs
from fedloom.data.tasks import CLIENT_TASKS, ClientTask, Modality
from fedloom.errors import FedloomError
from fedloom.experiment.client_parts import (
    backbones_of,
    features_once,
    folder_of,
    new_client,
    new_client_model,
    picture_side,
    reads,
    reads_texts,
    site_tokenizer,
    start_from,
    start_name,
)
from fedloom.experiment.datasets import cached_dataset, split_scene
from fedloom.experiment.pretraining import Assets, fingerprint, model_key, weights_print
from fedloom.experiment.server_models import bare_server
from fedloom.federation.host import ClientSpec
from fedloom.runs.cache import cached
from fedloom.seeding import numpy_stream

if TYPE_CHECKING:
    from fedloom.methods.context import ClientContext

FORMAT = 5  # raise when a change of code changes what the warm start gives


def client_names(config: Config) -> dict[ClientTask, list[str]]:
    """The names of all clients, by modality."""
    return {m: config.clients.names(m) for m in CLIENT_TASKS}


def site_specs(
    config: Config, method: str, settings: dict[str, Any], assets: Assets, data: str = ""
) -> list[ClientSpec]:
    """One recipe a client; image clients first. data: digest of the scene that all of them must find."""
    arguments = {
        "config": config.model_dump(mode="json"),
        "method": method,
        "settings": settings,
        "tokenizer": folder_of(assets.tokenizer),
        "data": data,
    }

    return [
        ClientSpec(
            name,
            modality,
            "fedloom.experiment.clients:build_client",
            {**arguments, "modality": modality, "index": i, "backbones": starts[i]},
        )
        for modality, names in client_names(config).items()
        for starts in [_starts(config, modality, assets)]
        for i, name in enumerate(names)
    ]


def _starts(config: Config, modality: ClientTask, assets: Assets) -> list[list[str]]:
    """What each client of a modality starts from."""
    learners = config.clients.learners(modality)
    public = (
        config.clients.public_steps and modality != ClientTask.MULTIMODAL_CLASSIFICATION
    )  # joint clients start alike, from no public data
    return [backbones_of(x, assets) if public else [] for x in learners]


def settle_worker(threads: int) -> None:
    """What a worker process does before it builds its clients."""
    from fedloom.processes import settle_process

    settle_process(threads)


def build_client(
    *,
    name: str,
    config: dict[str, Any],
    method: str,
    settings: dict[str, Any],
    tokenizer: str,
    modality: ClientTask,
    index: int,
    backbones: list[str],
    data: str = "",
) -> Any:
    """A client with its share of the data, warm-started. Called where the client lives."""
    from fedloom.experiment.export import write_learner
    from fedloom.methods.base import load_method

    run: Config = validate(Config, config)
    scene = cached_dataset(run.data)
    if data and scene.digest != data:
        raise FedloomError(f"{run.data.name}: the data have changed since the run began; nothing else may write there")
    private = private_samples(run, scene, modality, index)
    learner_settings = run.clients.learners(modality)[index]
    words = site_tokenizer(learner_settings, tokenizer, run.server.tokens)
    size = picture_side(scene)
    learner = new_client_model(
        learner_settings,
        run.seed,
        start_name(name, modality),
        classes=len(scene.names_of(modality)),
        image_size=size,
        tokenizer=words,
        streams=scene.modalities if modality == ClientTask.MULTIMODAL_CLASSIFICATION else (),
    )
    start_from(learner, backbones)
    kind, _ = load_method(method)
    more = {"fold": run.evaluation.fold} if modality == ClientTask.RETRIEVAL else {}

    def warm(site: ClientContext) -> None:
        _warm_start(site, run, private, learner_settings, backbones, tokenizer)

    client = new_client(
        method,
        settings,
        warm,
        name=name,
        modality=modality,
        model=learner,
        tokenizer=words,
        private=private,
        test=scene.test[modality],
        seed=run.seed,
        **run.clients.training(name),
        **run.clients.arithmetic(),
        device=device_for(run, modality, index),
        features=features_once,
        server=partial(bare_server, run, size, tokenizer, device=device_for(run, modality, index))
        if "server" in kind.client_uses
        else None,
        **more,
    )
    shown = words if modality != ClientTask.IMAGE_CLASSIFICATION else None
    side = size if Modality.IMAGE in reads(modality, scene.modalities) else 0
    client.context.export = partial(write_learner, client.context.model, scene.names_of(modality), shown, side)
    return client


def device_for(config: Config, modality: ClientTask, index: int) -> str:
    """The device of client `index` of that modality: the clients take `clients.devices` in turn, in their order."""
    name, devices = config.clients.names(modality)[index], config.clients.devices
    return devices[list(config.clients.everyone()).index(name) % len(devices)]


def private_samples(config: Config, scene: FederatedDataset, modality: ClientTask, index: int) -> ClientData:
    """The share of client `index` of that modality, with what `data.multi_ratio` and `data.corruption` take from it."""
    clients = len(config.clients.learners(modality))
    held = scene.train[modality].subset(split_scene(scene, config.data, clients, modality, config.seed).indices[index])
    if isinstance(held, MultimodalSamples):
        held = held.lacking(
            {
                kind: np.ones(len(held), dtype=np.bool_)
                for kind in held.modalities
                if kind not in held_kinds(held.modalities, config.data.multi_ratio, clients, index)
            }
        )
    rng = numpy_stream(config.seed, modality, index, "corruption")
    return corrupt(held, config.data.corruption, len(scene.names_of(modality)), rng).samples


def held_kinds(kinds: tuple[Modality, Modality], multi_ratio: float, clients: int, index: int) -> tuple[Modality, ...]:
    """The kinds that joint client `index` of `clients` holds: the first ones both, then those of the first kind."""
    both = int(multi_ratio * clients + 0.5)
    first = both + (clients - both + 1) // 2
    return kinds if index < both else kinds[:1] if index < first else kinds[1:]


def _warm_start(
    site: ClientContext,
    config: Config,
    private: ClientData,
    learner: ModelSettings,
    backbones: Sequence[str],
    tokenizer: str,
) -> None:
    """E_0 private steps before round 1; done once for all methods and runs that share model, data and seed.

    A learner's own weights count by their content: the same files elsewhere are the same start, other files under the
    same path are another one.
    """
    c, own_way = config.clients, config.clients.training(site.name)
    names = [Path(folder).name for folder in backbones]
    words = reads_texts(learner)
    own = [tower.pretrained for tower in learner.towers()]
    key = {
        "format": FORMAT,
        "client": site.name,
        "start": [
            model_key(learner) | {"pretrained": None},
            *(names if names else [None]),
        ],
        "private": _print_of(private),
        "tokenizer": Path(tokenizer).name if words else "",
        "training": [
            *(c.warm_steps, c.batch, own_way["rate"], own_way["decay"], c.augment),
            *((own_way["optimizer"], c.momentum) if own_way["optimizer"] != "adamw" else ()),
            *((c.clip,) if c.clip != 1.0 else ()),
            *((c.precision, site.device.type) if (c.precision, site.device.type) != ("fp32", "cpu") else ()),
            *((c.accumulate,) if c.accumulate != 1 else ()),
        ],
        "seed": config.seed,
        "threads": config.engine.threads,
        "frozen": "+".join(weights_print(w) if w else "" for w in own) if any(own) else None,
    }

    from fedloom.methods.state import read_state, write_state

    def build(folder: Path) -> None:
        site.train_private(c.warm_steps, 0, "warm")
        write_state(site.state(), folder / "client.safetensors")

    folder = cached("warm", key, build)
    site.load_state(*read_state(folder / "client.safetensors"))


def _print_of(private: ClientData) -> str:
    """A digest of a client's samples."""
    if isinstance(private, ImageTextPairs):
        return fingerprint(private.images, private.captions, private.owner)
    if isinstance(private, MultimodalSamples):
        return fingerprint(*private.parts.values(), *private.present.values(), private.labels)
    return fingerprint(getattr(private, "images", getattr(private, "texts", ())), private.labels)
