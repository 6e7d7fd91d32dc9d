"""The parts of a run: its split, pretrained models, the server's context, and the federation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.config import Config
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.data.partition import Split
from fedloom.experiment.arrivals import new_classes
from fedloom.experiment.checks import own_data, reads_captions
from fedloom.experiment.client_builder import picture_side
from fedloom.experiment.clients import client_specs, server_model, settle_worker, shape_of
from fedloom.experiment.datasets import split_scene
from fedloom.experiment.pretraining import Assets, Evaluators, prepare, weights_print
from fedloom.federation.base import Federation
from fedloom.federation.engines.base import EngineContext
from fedloom.federation.ledger import Ledger
from fedloom.federation.nobody import Nobody
from fedloom.methods.base import Method, ServerContext
from fedloom.progress import Observer
from fedloom.registry import ENGINES
from fedloom.tasks import CLIENT_TASKS, ClientTask

ENGINE_VERBS = frozenset({"join"})  # what an engine itself sends; no communication of a method


def split_data(config: Config, scene: FederatedDataset) -> dict[ClientTask, Split]:
    """The training samples of each modality that has clients, shared out among them.

    Raises:
        BadInput: the scene lacks a modality, or has too few samples of it.
    """
    return {
        m: split_scene(scene, config.data, len(models), m, config.seed)
        for m in CLIENT_TASKS
        if (models := config.clients.models(m))
    }


def pretrained_models(
    config: Config,
    method: Method,
    settings: Any,
    scene: FederatedDataset,
    watch: Observer,
    log: Callable[[str], None],
    seconds: float | None = None,
) -> tuple[Assets, Evaluators]:
    """The models that the method, or the scoring of its run, starts from; see `prepare`."""
    uses = method.needs(settings)
    needs: set[str] = {"generator", "captioner"} & uses
    if not reads_captions(config, method, settings):
        needs -= {"captioner"}
    if "generator" in uses:
        needs |= {"evaluators"}
    if method.tasks and (config.clients.image or config.clients.text or config.clients.pair):
        needs |= {"backbones"}
    return prepare(config, scene, frozenset(needs), watch, log, seconds)


def server_tools(
    config: Config, method: Method, settings: Any, scene: FederatedDataset, assets: Assets
) -> ServerContext:
    """What the method's server half works with, its models loaded."""
    from fedloom.models.device import device_of

    uses = method.needs(settings)
    generator = captioner = features = classify = None
    if assets.generator is not None:
        from fedloom.models.generators.families import load_family, locate

        s = config.server
        g, given = s.generator, s.generator.pretrained is not None
        folder = locate(g) if given else assets.generator
        # whatever its own side, all who read its pictures read those of the data's side
        side = picture_side(scene)
        generator = load_family(g, folder, config.clients.width, side, s.seed, s.device, s.precision)
        generator.origin = weights_print(str(folder)) if given else folder.name
    if assets.captioner is not None:
        captioner = _captioner(config, assets.captioner)
    if uses & {"features", "classify"} and assets.clip is not None:
        from fedloom.models.evaluators.clip import load_clip

        clip = load_clip(assets.clip, device_of(config.server.device))
        features, classify = clip.embed_pictures, partial(clip.classify, prompts=scene.prompts)

    real = scene.train.get(ClientTask.IMAGE_CLASSIFICATION) if "real" in uses else None
    return ServerContext(
        class_names=scene.class_names,
        prompts=scene.prompts,
        width=config.clients.width,
        seed=config.seed,
        rounds=config.rounds,
        timeout=config.engine.timeout,
        quorum=config.engine.quorum,
        generator=generator,
        captioner=captioner,
        features=features,
        classify=classify,
        real=real if isinstance(real, ImageSet) else None,
        pairs=scene.train.get(ClientTask.RETRIEVAL) if "pairs" in uses else None,
        public=scene.public if "public" in uses else None,
        modalities=tuple(m for m in CLIENT_TASKS if config.clients.models(m)),
        new_classes=new_classes(config, scene.class_names) if method.tasks else {},
        new_kinds=config.participation.kinds if config.participation is not None else {},
        models=partial(server_model, config, shape_of(scene), assets) if "models" in uses else None,
        secret=own_data(config),
    )


def _captioner(config: Config, folder: Path) -> Any:
    from fedloom.models.device import device_of
    from fedloom.models.evaluators.captioner import load_captioner
    from fedloom.models.evaluators.retrieval_captioner import load_retrieval

    s, device = config.server.captioner, device_of(config.server.device)
    if s.retrieve is not None:
        return load_retrieval(s, folder, device)
    return load_captioner(folder, s.max_tokens, device, config.server.precision)


class Link(NamedTuple):
    """What an engine's launcher has handed over, such as Flower's Grid, what a run is known by, the server's data.

    parking: a folder for the state of clients that wait.
    """

    handle: Any
    run: str
    scene: FederatedDataset
    parking: Path | None = None


def build_federation(
    config: Config, method: Method, settings: Any, assets: Assets, ledger: Ledger, link: Link
) -> Federation:
    """The method's clients and what carries its messages to them; a context. Nobody, for a method without clients."""
    contract = method.contract(settings)
    contract.largest = config.engine.largest_message
    if not method.tasks:
        return Nobody(contract, ledger)
    specs, offer = [], None
    if own_data(config):
        offer = _offer(config, assets, link.scene)
    else:
        specs = client_specs(config, config.method, config.settings, assets, link.scene.digest)
    context = EngineContext(
        config.engine,
        f"{settle_worker.__module__}:{settle_worker.__name__}",
        config.clients.everyone(),
        link.handle,
        link.run,
        offer,
        link.parking,
    )
    federation: Federation = ENGINES.find(config.engine.name).build(specs, contract, ledger, context)
    return federation


def _offer(config: Config, assets: Assets, scene: FederatedDataset) -> tuple[str, Mapping[str, Any]]:
    """What silos with data of their own are offered."""
    from fedloom.experiment.silo_client import make_offer, pack_public

    offer = make_offer(config, scene.class_names, picture_side(scene), scene.text_class_names)
    return json.dumps(offer), pack_public(assets if config.clients.public_steps else Assets(assets.tokenizer))
