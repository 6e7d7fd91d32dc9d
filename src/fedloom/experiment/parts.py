"""The parts of a run, built from its configuration: method, split, models, the server's tools, the federation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from fedloom.config import Config
from fedloom.config.defaults import Say, silent
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.data.partition import Split
from fedloom.data.tasks import CLIENT_TASKS, ClientTask
from fedloom.errors import BadInput
from fedloom.experiment.checks import own_data, reads_captions
from fedloom.experiment.client_parts import picture_side
from fedloom.experiment.clients import settle_worker, site_specs
from fedloom.experiment.datasets import split_scene
from fedloom.experiment.fitting import samples, side_rules, with_counts, with_side
from fedloom.experiment.pretraining import Assets, prepare, weights_print
from fedloom.experiment.server_models import server_learner
from fedloom.federation.base import Federation
from fedloom.federation.engines.base import EngineContext
from fedloom.federation.ledger import Ledger
from fedloom.federation.nobody import Nobody
from fedloom.methods.base import Method, ServerContext, load_method
from fedloom.progress import Observer
from fedloom.registry import ENGINES, METHODS

ENGINE_VERBS = frozenset({"join"})  # what an engine itself sends; no communication of a method


def resolve(config: Config) -> tuple[Method, Any]:
    """The method and its settings: what its name fixes, then what the configuration says, fitted to the modalities.

    Raises:
        BadInput: a setting is unknown, wrong, or against what the name fixes; or the quorum exceeds the clients.
    """
    method, fixed = load_method(config.method)
    for key, value in fixed.items():
        if config.settings.get(key, value) != value:
            raise BadInput(f"settings.{key} = {config.settings[key]!r}: {config.method} is defined by {value!r}")
    settings = validate(method.settings, {**config.settings, **fixed}, "settings")
    modalities = list(config.clients.everyone().values())
    _check_tasks(config, method)
    if wrong := [o for o in config.clients.optimizers() if o not in method.optimizers]:
        raise BadInput(
            f"clients.optimizer = {wrong[0]!r}: {config.method} is defined on plain gradients, allowed: "
            f"{', '.join(method.optimizers)}"
        )
    if (quorum := config.engine.quorum) is not None and quorum > len(modalities):
        raise BadInput(
            f"engine.quorum = {quorum}: there are {len(modalities)} clients, allowed: 1 to {len(modalities)}"
        )
    return method, method.resolve(settings, modalities)


def _check_tasks(config: Config, method: Method) -> None:
    """Raises BadInput where there are clients of a task that the method does not serve."""
    lacking = [m for m in CLIENT_TASKS if config.clients.names(m) and m not in method.tasks] if method.tasks else []
    if not lacking:
        return
    if len(method.tasks) == 1:
        (only,) = method.tasks
        empty = " and ".join(f"clients.{m}=[]" for m in lacking)
        raise BadInput(
            f"{config.method} is for {only.spec.clients} (clients.{only}) only, and there are clients of "
            f"{', '.join(lacking)}: set {empty}, or take the preset fedcmi"
        )
    first = lacking[0]
    raise BadInput(
        f"{config.method} has no part for {first.spec.clients} (clients.{first}), {len(config.clients.names(first))} "
        f"given; allowed: none. Methods that have one: {', '.join(serving(first))}"
    )


def serving(task: ClientTask) -> list[str]:
    """The methods that have a part for clients of that task."""
    return [name for name in METHODS.names() if task in load_method(name)[0].tasks]


def completed(config: Config) -> tuple[Config, Method, Any]:
    """The configuration as a run carries it out and writes it down, with its method and settings: see `resolve`.

    All settings of the method stand in it, and the clients' models are those that the method is defined on.
    """
    method, settings = resolve(config)
    clients = method.models(settings, config.clients)
    own = {"settings": settings.model_dump(mode="json"), "clients": clients}
    return config.model_copy(update=own), method, settings


def sized(config: Config, say: Say = silent) -> Config:
    """The configuration with pictures that can be cut up as its method's models do it: see `fitting.with_side`."""
    done, method, settings = completed(config)
    return with_side(config, side_rules(done, method, settings), say)


def counted(config: Config, method: Method, scene: FederatedDataset | None = None, say: Say = silent) -> Config:
    """The configuration with as many clients as the data allow, where nobody has said how many.

    scene: its data set; None: what is known of it, else it is read.
    """
    said = config.clients.model_fields_set
    open_ = any(m not in said and getattr(config.clients, m) for m in CLIENT_TASKS)
    if not method.tasks or own_data(config) or not open_:
        return config
    return with_counts(config, samples(config, scene), say)


def split_data(config: Config, scene: FederatedDataset) -> dict[ClientTask, Split]:
    """The training samples of each modality that has clients, shared out among them.

    Raises:
        BadInput: the scene lacks a modality, or has too few samples of it.
    """
    return {
        m: split_scene(scene, config.data, len(learners), m, config.seed)
        for m in CLIENT_TASKS
        if (learners := config.clients.learners(m))
    }


def pretrained_models(
    config: Config,
    method: Method,
    settings: Any,
    scene: FederatedDataset,
    watch: Observer,
    log: Callable[[str], None],
) -> Assets:
    """The models that the method, or the scoring of its run, starts from; see `prepare`."""
    uses = method.needs(settings)
    needs: set[str] = {"generator", "captioner"} & uses
    if not reads_captions(config, method, settings):
        needs -= {"captioner"}
    if "generator" in uses:
        needs |= {"judge"}
    if method.tasks and (config.clients.image or config.clients.text or config.clients.pair):
        needs |= {"backbones"}
    return prepare(config, scene, frozenset(needs), watch, log)


def server_tools(
    config: Config, method: Method, settings: Any, scene: FederatedDataset, assets: Assets
) -> ServerContext:
    """What the method's server half works with, its models loaded."""
    from fedloom.models.device import device_of

    uses = method.needs(settings)
    generator = captioner = features = None
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
        from fedloom.models.evaluators.captioner import load_captioner

        most, precision = config.server.captioner.max_tokens, config.server.precision
        captioner = load_captioner(assets.captioner, most, device_of(config.server.device), precision)
    if "features" in uses and assets.clip is not None:
        from fedloom.models.evaluators.clip import load_clip

        features = load_clip(assets.clip, device_of(config.server.device)).embed_pictures

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
        real=real if isinstance(real, ImageSet) else None,
        public=scene.public if "public" in uses else None,
        modalities=tuple(m for m in CLIENT_TASKS if config.clients.learners(m)),
        learners=partial(server_learner, config, scene, assets) if "learners" in uses else None,
    )


class Link(NamedTuple):
    """What an engine's launcher has handed over, such as Flower's Grid, what a run is known by, the server's data."""

    handle: Any
    run: str
    scene: FederatedDataset


def build_federation(
    config: Config, method: Method, settings: Any, assets: Assets, ledger: Ledger, link: Link
) -> Federation:
    """The method's clients and what carries its messages to them; a context. Nobody, for a method without clients."""
    contract = method.contract(settings)
    if not method.tasks:
        return Nobody(contract, ledger)
    specs, offer = [], None
    if own_data(config):
        offer = _offer(config, assets, link.scene)
    else:
        specs = site_specs(config, config.method, config.settings, assets, link.scene.digest)
    context = EngineContext(
        config.engine,
        f"{settle_worker.__module__}:{settle_worker.__name__}",
        config.clients.everyone(),
        link.handle,
        link.run,
        offer,
    )
    federation: Federation = ENGINES.find(config.engine.name).build(specs, contract, ledger, context)
    return federation


def _offer(config: Config, assets: Assets, scene: FederatedDataset) -> tuple[str, Mapping[str, Any]]:
    """What silos with data of their own are offered."""
    from fedloom.experiment.silo_client import make_offer, pack_public

    offer = make_offer(config, scene.class_names, picture_side(scene), scene.text_class_names)
    return json.dumps(offer), pack_public(assets if config.clients.public_steps else Assets(assets.tokenizer))
