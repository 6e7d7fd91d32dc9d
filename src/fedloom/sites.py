"""Clients built from the configuration: the factory that every engine calls at a site, and the warm start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fedloom.config import Config, validate
from fedloom.data.scene import ImageSet, Modality, Samples, Scene
from fedloom.errors import BadInput
from fedloom.federation.site import SiteSpec
from fedloom.models.settings import LearnerSettings
from fedloom.pretraining import Assets, backbone_name, fingerprint, load_tokenizer, weights_print
from fedloom.runs.cache import cached
from fedloom.scenes import cached_scene, split_scene

if TYPE_CHECKING:
    from fedloom.methods.base import Site

MODALITIES: tuple[Modality, ...] = ("image", "text")
FORMAT = 4  # raise when a change of code changes what the warm start gives


def client_names(config: Config) -> dict[Modality, list[str]]:
    """The names of all clients, by modality."""
    return {m: config.clients.names(m) for m in MODALITIES}


def site_specs(config: Config, method: str, settings: dict[str, Any], assets: Assets) -> list[SiteSpec]:
    """One recipe a client; image clients first."""
    arguments = {
        "config": config.model_dump(mode="json"),
        "method": method,
        "settings": settings,
        "tokenizer": str(assets.tokenizer),
    }

    def backbone(modality: Modality, index: int) -> str | None:
        if config.clients.learners(modality)[index].pretrained:
            return None  # it has weights of its own
        folder = assets.backbones.get(backbone_name(config.clients.learners(modality)[index]))
        return None if folder is None else str(folder)

    return [
        SiteSpec(
            name,
            modality,
            "fedloom.sites:build_client",
            {**arguments, "modality": modality, "index": i, "backbone": backbone(modality, i)},
        )
        for modality, names in client_names(config).items()
        for i, name in enumerate(names)
    ]


def settle_worker(threads: int) -> None:
    """What a worker process does before it builds its clients."""
    from fedloom.quiet import settle_process

    settle_process(threads)


def build_client(
    *,
    name: str,
    config: dict[str, Any],
    method: str,
    settings: dict[str, Any],
    tokenizer: str,
    modality: Modality,
    index: int,
    backbone: str | None,
) -> Any:
    """A client with its share of the data, warm-started. Called where the client lives."""
    from fedloom.exporting import write_learner

    run: Config = validate(Config, config)
    scene = cached_scene(run.data)
    private = private_samples(run, scene, modality, index)
    learner_settings = run.clients.learners(modality)[index]
    words = site_tokenizer(learner_settings.pretrained if modality == "text" else None, tokenizer)
    size = private.images.shape[1] if isinstance(private, ImageSet) else 0
    learner = new_learner(
        learner_settings,
        run.seed,
        name,
        classes=scene.classes,
        image_size=size,
        tokenizer=words,
    )
    if backbone is not None:
        start_from(learner, Path(backbone))
    c = run.clients
    client = new_client(
        method,
        settings,
        name=name,
        modality=modality,
        learner=learner,
        tokenizer=words,
        private=private,
        test=scene.test[modality],
        seed=run.seed,
        batch=c.batch,
        rate=c.rate,
        decay=c.decay,
        augment=c.augment,
    )
    client.site.export = partial(write_learner, learner, scene.class_names, words, size)
    _warm_start(client, run, private, learner_settings, backbone, tokenizer)
    return client


def server_learner(config: Config, scene: Scene, assets: Assets, modality: Modality) -> Site:
    """A task model on the server, of the largest client architecture of that modality, without data.

    Raises BadInput when the server cannot build one: no client or no data of that modality, or weights elsewhere.
    """
    from fedloom.methods.base import Site

    groups = config.clients.learners(modality)
    if modality not in scene.test or not groups:
        raise BadInput(
            f"{config.method} needs a {modality} model on the server, and there is nothing to build it like"
        )
    group = max(groups, key=lambda s: (s.hidden * s.layers, s.arch))
    nothing = scene.test[modality].subset([])
    words = site_tokenizer(group.pretrained if modality == "text" else None, str(assets.tokenizer))
    size = nothing.images.shape[1] if isinstance(nothing, ImageSet) else 0
    name = f"server-{modality}"
    learner = new_learner(group, config.seed, name, classes=scene.classes, image_size=size, tokenizer=words)
    backbone = None if group.pretrained else assets.backbones.get(backbone_name(group))
    if backbone is not None:
        start_from(learner, backbone)
    c = config.clients
    return Site(
        name=name,
        modality=modality,
        learner=learner,
        tokenizer=words,
        private=nothing,
        test=nothing,
        seed=config.seed,
        batch=c.batch,
        rate=c.rate,
        decay=c.decay,
        augment=c.augment,
    )


def new_learner(settings: LearnerSettings, seed: int, name: str, **shape: Any) -> Any:
    """The learner of the client `name`, its random weights from the client's own stream.

    shape: classes, image_size (side in pixels) and tokenizer, as `build_learner` takes them.
    """
    from fedloom.models.learner import build_learner
    from fedloom.randomness import global_torch_stream

    with global_torch_stream(seed, name, "weights"):
        return build_learner(settings, **shape)


def start_from(learner: Any, backbone: Path) -> None:
    """Put the public backbone in the folder `backbone` under the learner: all but its head."""
    import torch

    body = {k: torch.from_numpy(v) for k, v in load_file(backbone / "backbone.safetensors").items()}
    learner.load_state_dict(body, strict=False)


def new_client(method: str, settings: dict[str, Any], **site: Any) -> Any:
    """The client half of `method` at its site. site: what `methods.base.Site` takes."""
    from fedloom.methods.base import Site, load_method

    kind, _ = load_method(method)
    return kind.client(Site(**site), validate(kind.settings, settings, "settings"))


def private_samples(config: Config, scene: Scene, modality: Modality, index: int) -> Samples:
    """The share of client `index` of that modality."""
    clients = len(config.clients.learners(modality))
    return scene.train[modality].subset(
        split_scene(scene, config.data, clients, modality, config.seed).indices[index]
    )


def site_tokenizer(pretrained: str | None, shared: str) -> Any:
    """The tokenizer that comes with a text learner's own weights, else the public one in the folder `shared`."""
    if pretrained is None:
        return load_tokenizer(Path(shared))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(pretrained)


def _warm_start(
    client: Any,
    config: Config,
    private: Samples,
    learner: LearnerSettings,
    backbone: str | None,
    tokenizer: str,
) -> None:
    """E_0 private steps before round 1; done once for all methods and runs that share model, data and seed.

    A learner's own weights count by their content: the same files elsewhere are the same start, other files under the
    same path are another one.
    """
    site, c = client.site, config.clients
    key = {
        "format": FORMAT,
        "client": site.name,
        "start": [
            learner.model_dump(mode="json") | {"pretrained": None},
            Path(backbone).name if backbone else None,
        ],
        "private": fingerprint(getattr(private, "images", getattr(private, "texts", ())), private.labels),
        "tokenizer": Path(tokenizer).name if site.modality == "text" else "",
        "training": [c.warm_steps, c.batch, c.rate, c.decay, c.augment],
        "seed": config.seed,
        "threads": config.engine.threads,
        "frozen": weights_print(learner.pretrained) if learner.pretrained else None,
    }

    def build(folder: Path) -> None:
        site.train_private(c.warm_steps, 0, "warm")
        tensors, _ = client.state()
        save_file({k: np.asarray(v, order="C") for k, v in tensors.items()}, folder / "client.safetensors")

    folder = cached("warm", key, build)
    client.load_state(load_file(folder / "client.safetensors"), {})
