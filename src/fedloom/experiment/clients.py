"""Clients built from the configuration: the factory that every engine calls at a site, and the warm start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedloom.config import Config
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.data.canaries import Planted, plant
from fedloom.data.containers import ClientData, FederatedDataset, ImageSet, TextSet
from fedloom.data.corruption import corrupt
from fedloom.data.joint import MultimodalSamples, held_kinds
from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.arrivals import Arriving, class_groups, coming
from fedloom.experiment.client_builder import ClientBuilder, backbones_of, features_once, features_shared, picture_side
from fedloom.experiment.datasets import cached_dataset, own_test, shared_dataset, split_scene, test_groups
from fedloom.experiment.pretraining import Assets, fingerprint, model_key, weights_print
from fedloom.experiment.private import privacy_plan
from fedloom.federation.host import ClientSpec
from fedloom.registry import outside_code
from fedloom.runs.cache import cached
from fedloom.seeding import numpy_stream
from fedloom.tasks import CLIENT_TASKS, ClientTask, Modality

if TYPE_CHECKING:
    from fedloom.methods.context import ClientContext

FORMAT = 5  # raise when a change of code changes what the warm start gives


def client_names(config: Config) -> dict[ClientTask, list[str]]:
    """The names of all clients, by modality."""
    return {m: config.clients.names(m) for m in CLIENT_TASKS}


def client_specs(
    config: Config, method: str, settings: dict[str, Any], assets: Assets, data: str = ""
) -> list[ClientSpec]:
    """One recipe a client; image clients first. data: digest of the data set that all of them must find."""
    arguments = {
        "config": config.model_dump(mode="json"),
        "method": method,
        "settings": settings,
        "tokenizer": str(assets.tokenizer or ""),
        "data": data,
    }
    # Multimodal clients start alike, from no public data.
    public = [m for m in CLIENT_TASKS if config.clients.public_steps and m != ClientTask.MULTIMODAL_CLASSIFICATION]
    return [
        ClientSpec(
            name,
            task,
            "fedloom.experiment.clients:build_client",
            {
                **arguments,
                "modality": task,
                "index": i,
                "backbones": backbones_of(own, assets) if task in public else [],
            },
        )
        for task in CLIENT_TASKS
        for i, (name, own) in enumerate(zip(config.clients.names(task), config.clients.models(task)))
    ]


def settle_worker(threads: int) -> None:
    """What a worker process does before it builds its clients."""
    from fedloom.processes import settle_process

    settle_process(threads)


def builder_of(
    config: Config, data: FederatedDataset, task: ClientTask, index: int, tokenizer: str, backbones: Sequence[str] = ()
) -> ClientBuilder:
    """The builder of client `index` of that task. tokenizer: folder of the public one; backbones: see there."""
    return ClientBuilder(
        name=config.clients.names(task)[index],
        task=task,
        settings=config.clients.models(task)[index],
        seed=config.seed,
        class_names=data.names_of(task),
        image_size=picture_side(data),
        modalities=data.modalities if task == ClientTask.MULTIMODAL_CLASSIFICATION else (),
        tokenizer=tokenizer,
        tokens=config.clients.tokens or config.server.tokens,
        backbones=backbones,
    )


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
    from fedloom.methods.base import load_method

    run: Config = validate(Config, config)
    dataset = shared_dataset(run.data.model_dump_json(), data) if data else cached_dataset(run.data)
    if data and dataset.digest != data:
        raise FedloomError(f"{run.data.name}: the data have changed since the run began; nothing else may write there")
    task, all_of_them = ClientTask(modality), private_samples(run, dataset, modality, index)
    later = coming(run, name, dataset.names_of(task))
    private = later.present(all_of_them, 0) if later.rounds else all_of_them
    if not len(private):
        raise BadInput(f"participation: {name} has no samples before those of round {later.rounds[0]}")
    builder, device = builder_of(run, dataset, task, index, tokenizer, backbones), device_for(run, modality, index)
    server = partial(server_context, run, builder.image_size, tokenizer, device=device)
    kind, _ = load_method(method)
    plan = privacy_plan(run, kind, validate(kind.settings, settings, "settings"))
    test = own_test(dataset, run.data, task, index)
    groups = test_groups(dataset, run.data, task)
    if not isinstance(test, ImageTextPairs):
        groups = class_groups(run, dataset.names_of(task), test.labels) or groups
    client = builder.client(
        method,
        settings,
        lambda context: _warm_start(context, run, private, builder),
        private,
        test,
        **run.clients.training(name),
        **run.clients.arithmetic(),
        device=device,
        features=features_once,
        shared=features_shared,
        groups=groups,
        server=server if "server" in kind.client_uses else None,
        **({"fold": run.evaluation.fold} if task == ClientTask.RETRIEVAL else {}),
        **({"privacy": plan} if plan is not None else {}),
    )
    return Arriving(client, all_of_them, later, run.clients.warm_steps) if later.rounds else client


# ------------------------------------------------------------------------------------------ the server's own models


def server_settings(config: Config, task: ClientTask) -> ModelSettings:
    """The server's own model of that task: as configured, else of the largest client architecture.

    Raises BadInput where there is none to build it like.
    """
    if task == ClientTask.MULTIMODAL_CLASSIFICATION:
        return config.clients.models(task)[0]
    own: ModelSettings | None = getattr(config.server, task)
    if own is not None:
        return own.model_copy(update={"unit": config.clients.groups[0].unit})
    which = 0 if task == ClientTask.IMAGE_CLASSIFICATION else -1
    alike = [
        *config.clients.models(task),
        *(x.towers()[which].model_copy(update={"unit": x.unit}) for x in config.clients.models(ClientTask.RETRIEVAL)),
    ]
    if not alike:
        raise BadInput(
            f"{config.method} needs a {task} model on the server, and there is nothing to build it like: "
            f"set server.{task}"
        )
    return max(alike, key=lambda s: (s.hidden * s.layers, s.arch))


def server_context(
    config: Config, image_size: int, tokenizer: str, task: ClientTask, device: str = "cpu", **more: Any
) -> ClientContext:
    """A model of the server's own, without data: random weights from the server's stream for that task.

    image_size: side in pixels; tokenizer: folder of the public one; more: of the `ClientBuilder`.
    """
    builder = ClientBuilder(
        name=f"server-{task}",
        task=ClientTask(task),
        settings=server_settings(config, task),
        seed=config.seed,
        image_size=image_size,
        tokenizer=tokenizer,
        tokens=config.clients.tokens or config.server.tokens,
        **more,
    )
    training = config.clients.training() | config.clients.arithmetic()
    return builder.context(**training, device=device, features=features_once)


@dataclass(frozen=True)
class DatasetShape:
    """What a server's own model must fit: side of pictures in pixels, class names by task, two modalities.

    No sample: a server is not to have what the data set's tests and clients hold.
    """

    side: int
    names: Mapping[ClientTask, tuple[str, ...]]
    modalities: tuple[Modality, ...]


def shape_of(data: FederatedDataset) -> DatasetShape:
    """The shape of a data set."""
    return DatasetShape(picture_side(data), {task: data.names_of(task) for task in CLIENT_TASKS}, data.modalities)


def server_model(config: Config, data: DatasetShape, assets: Assets, task: ClientTask) -> ClientContext:
    """A task model on the server, as `server_settings` says, from its public backbone, without data.

    Raises BadInput when the server cannot build one: nothing to build it like, or weights elsewhere.
    """
    return server_context(
        config,
        data.side,
        str(assets.tokenizer or ""),
        task,
        config.server.device,
        class_names=data.names[task],
        modalities=data.modalities if task == ClientTask.MULTIMODAL_CLASSIFICATION else (),
        backbones=backbones_of(server_settings(config, task), assets),
    )


# ------------------------------------------------------------------------------------------- samples and warm start


def device_for(config: Config, modality: ClientTask, index: int) -> str:
    """The device of client `index` of that modality: the clients take `clients.devices` in turn, in their order."""
    name, devices = config.clients.names(modality)[index], config.clients.devices
    return devices[list(config.clients.everyone()).index(name) % len(devices)]


def private_samples(config: Config, scene: FederatedDataset, modality: ClientTask, index: int) -> ClientData:
    """The share of client `index` of that modality, with what `data.multi_ratio` and `data.corruption` take from it.

    And with the canaries of `data.canaries` that are in.
    """
    held = uncanaried(config, scene, modality, index)
    if config.data.canaries is None:
        return held
    return planted(config, scene, held, modality, index).samples


def planted(config: Config, scene: FederatedDataset, held: ClientData, modality: ClientTask, index: int) -> Planted:
    """The canaries of client `index` of that modality, among the samples that it holds."""
    assert config.data.canaries is not None
    assert isinstance(held, ImageSet | TextSet)  # `check_canaries`
    rng = numpy_stream(config.seed, modality, index, "canaries")
    return plant(held, config.data.canaries, len(scene.names_of(modality)), rng)


def uncanaried(config: Config, scene: FederatedDataset, modality: ClientTask, index: int) -> ClientData:
    """The share of client `index` without canaries."""
    clients = len(config.clients.models(modality))
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


def _warm_start(context: ClientContext, config: Config, private: ClientData, builder: ClientBuilder) -> None:
    """E_0 private steps before round 1; done once for all methods and runs that share model, data and seed.

    A model's own weights count by their content: the same files elsewhere are the same start, other files under the
    same path are another one.
    """
    c, own_way = config.clients, config.clients.training(context.name)
    model = builder.settings
    names = [Path(folder).name for folder in builder.backbones]
    own = [tower.pretrained for tower in model.towers()]
    key = {
        "format": FORMAT,
        "client": context.name,
        "start": [
            model_key(model) | {"pretrained": None},
            *(names if names else [None]),
        ],
        "private": _print_of(private),
        "tokenizer": Path(builder.tokenizer).name if model.text_tower else "",
        "training": [
            *(c.warm_steps, c.batch, own_way["rate"], own_way["decay"], c.augment),
            *((own_way["optimizer"], c.momentum) if own_way["optimizer"] != "adamw" else ()),
            *((c.clip,) if c.clip != 1.0 else ()),
            *((c.precision, context.device.type) if (c.precision, context.device.type) != ("fp32", "cpu") else ()),
            *((c.accumulate,) if c.accumulate != 1 else ()),
        ],
        "seed": config.seed,
        "threads": config.engine.threads,
        "frozen": "+".join(weights_print(w) if w else "" for w in own) if any(own) else None,
        **({"privacy": [c.privacy.clip, getattr(context, "noise", None)]} if c.privacy and c.privacy.epsilon else {}),
        **({"code": code} if (code := outside_code(model.arch.split("+"))) else {}),
    }

    from fedloom.methods.state import read_state, write_state

    def build(folder: Path) -> None:
        context.train_private(c.warm_steps, 0, "warm")
        write_state(context.state(), folder / "client.safetensors")

    folder = cached("warm", key, build)
    context.load_state(*read_state(folder / "client.safetensors"))


def _print_of(private: ClientData) -> str:
    """A digest of a client's samples."""
    if isinstance(private, ImageTextPairs):
        return fingerprint(private.images, private.captions, private.owner)
    if isinstance(private, MultimodalSamples):
        return fingerprint(*private.parts.values(), *private.present.values(), private.labels)
    return fingerprint(getattr(private, "images", getattr(private, "texts", ())), private.labels)
