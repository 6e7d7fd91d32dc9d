"""The parts of a run, built from its configuration: method, split, models, the server's tools, the federation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from fedloom.config import ClientsSettings, Config
from fedloom.config.defaults import Say, silent, takes
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.data.partition import Split
from fedloom.data.tasks import CLIENT_TASKS, ClientTask
from fedloom.errors import BadInput
from fedloom.experiment.client_parts import picture_side
from fedloom.experiment.clients import settle_worker, site_specs
from fedloom.experiment.datasets import split_scene
from fedloom.experiment.fitting import check_side, samples, side_rules, with_counts, with_side
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


def check_scene(config: Config, method: Method, settings: Any, scene: FederatedDataset) -> None:
    """Raises BadInput when the method's clients need the same classes and those of pictures and texts differ.

    And when there is one class; when the model of joint clients reads other kinds of data than the scene has; when
    pictures cannot be cut up.
    """
    for m in scene.train if method.tasks else ():
        if config.clients.learners(m) and len(names := scene.names_of(m)) == 1:
            raise BadInput(f"{scene.name} has one class, {names[0]!r}: there is nothing to tell apart. Needed: two")
    check_side(config, side_rules(config, method, settings), picture_side(scene))
    if method.tasks and config.clients.joint and scene.modalities:
        model = config.clients.joint[0]
        if model.kinds() != scene.modalities:
            raise BadInput(
                f"clients.joint: {model.arch} reads {' and '.join(model.kinds())}, {scene.name} has "
                f"{' and '.join(scene.modalities)}"
            )
    uses = method.needs(settings) & {"generator", "public"}
    if uses and not _shows(scene):
        for_what = "for its generator" if "generator" in uses else "in a public set"
        others = [m for m in METHODS.names() if set(takes(m)) & set(scene.train) and not _needs_pictures(m)]
        raise BadInput(
            f"{config.method} needs pictures {for_what}, and {scene.name} has {' and '.join(scene.train)} samples "
            f"only; methods without: {', '.join(others)}"
        )
    both = config.clients.image and config.clients.text
    if method.tasks and method.label_space == "shared" and both and not scene.one_label_space:
        raise BadInput(
            f"{config.method} needs the same classes for pictures and texts; {scene.name} has {scene.classes} "
            f"({', '.join(scene.class_names[:3])}, ...) and {len(scene.text_class_names)} "
            f"({', '.join(scene.text_class_names[:3])}, ...). Leave one of clients.image and clients.text empty"
        )


def _shows(scene: FederatedDataset) -> bool:
    """Whether a scene has pictures that a server may have."""
    held = (scene.public, scene.reference, scene.train.get(ClientTask.IMAGE_CLASSIFICATION))
    return any(len(getattr(part, "images", ())) for part in held)


def _needs_pictures(name: str) -> bool:
    """Whether a method needs pictures whatever its clients hold, as it is by default."""
    method, fixed = load_method(name)
    settings = method.settings(**fixed)
    looks = any(group.arch == "pair" for group in method.models(settings, ClientsSettings()).groups)
    return looks or bool(method.needs(settings) & {"generator", "public", "features"})


def check_weights(config: Config, method: Method, settings: Any) -> None:
    """Raises BadInput when weights that the run will load are not on this machine: names them all, and the command."""
    from fedloom.weights.needs import named_weights
    from fedloom.weights.place import found_here

    uses = method.needs(settings)
    loads = {
        "clients": bool(method.tasks) and not own_data(config),
        "server.captioner": "captioner" in uses and reads_captions(config, method, settings),
        "server.generator": "generator" in uses,
        "server.clip": bool({"generator", "features"} & uses),
        "server.": "learners" in uses,
        "evaluation": "generator" in uses,
    }

    def needed(key: str) -> bool:
        return next((there for prefix, there in loads.items() if key.startswith(prefix)), True)

    lacking = [
        name for name, keys in named_weights(config).items() if any(map(needed, keys)) and found_here(name) is None
    ]
    if lacking:
        raise BadInput(
            f"{len(lacking)} of the weights that the configuration names are not on this machine; "
            f"`fedloom fetch {' '.join(lacking)}` downloads them, as `fedloom run --fetch` does"
        )


def check_generator(config: Config, method: Method, settings: Any, side: int = 0) -> None:
    """Raises BadInput when the run needs a generator and the one that is given cannot be it, or not where it is to be.

    side: of the data's pictures in pixels, 0 where it is not known yet.
    """
    if "generator" in method.needs(settings):
        from fedloom.models.generators.families import check_given

        s = config.server
        check_given(s.generator, settings, side, s.device, s.precision)


def check_scoring(config: Config, method: Method, settings: Any) -> None:
    """Raises BadInput when a device, or what is given to caption or to score a generator, is not there or not that."""
    from fedloom.models.device import device_of
    from fedloom.models.evaluators.captioner import check_captioner
    from fedloom.models.evaluators.clip import check_clip
    from fedloom.models.evaluators.features import check_features
    from fedloom.models.pretrained import given_config

    uses, server, scored = method.needs(settings), config.server, config.evaluation
    for device in (
        server.device,
        *(config.clients.devices if method.tasks and not own_data(config) else ()),
    ):
        device_of(device)
    if "captioner" in uses and server.captioner.pretrained and reads_captions(config, method, settings):
        check_captioner(server.captioner.pretrained)
    if "generator" not in uses:
        return
    if server.clip.pretrained:
        check_clip(server.clip.pretrained)
    if scored.features:
        check_features(scored.features)
    if scored.judge.pretrained:
        given_config("evaluation.judge", scored.judge.pretrained)


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


def reads_captions(config: Config, method: Method, settings: Any) -> bool:
    """Captions are read by text clients, and by a generator tuned on them."""
    work = method.server.workload(settings, config.clients.batch)
    return bool(method.tasks and config.clients.text) or work is None or work.captions


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


def own_data(config: Config) -> bool:
    """Whether clients bring data of their own, so that the server has none to share out."""
    return config.engine.name == "flower" and config.engine.mode == "deployment"


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
