"""What is checked before a run begins: that data, weights, generator and devices are what its method needs."""

from __future__ import annotations

from typing import Any

from fedloom.config import ClientsSettings, Config
from fedloom.config.defaults import takes
from fedloom.data.containers import FederatedDataset
from fedloom.errors import BadInput
from fedloom.experiment.client_builder import picture_side
from fedloom.experiment.fitting import check_side, side_rules
from fedloom.methods.base import Method, load_method
from fedloom.methods.shared_messages import TuningSettings
from fedloom.registry import METHODS
from fedloom.tasks import SINGLE_MODALITY, ClientTask


def check_scene(config: Config, method: Method, settings: Any, scene: FederatedDataset) -> None:
    """Raises BadInput when the method's clients need the same classes and those of pictures and texts differ.

    And when there is one class; when the model of multimodal clients reads other kinds of data than the scene has; when
    pictures cannot be cut up; when public pictures are to be tuned on and there are none.
    """
    for m in scene.train if method.tasks else ():
        if config.clients.models(m) and len(names := scene.names_of(m)) == 1:
            raise BadInput(f"{scene.name} has one class, {names[0]!r}: there is nothing to tell apart. Needed: two")
    check_side(config, side_rules(config, method, settings), picture_side(scene))
    if method.tasks and config.clients.joint and scene.modalities:
        model = config.clients.joint[0]
        if model.kinds() != scene.modalities:
            raise BadInput(
                f"clients.joint: {model.arch} reads {' and '.join(model.kinds())}, {scene.name} has "
                f"{' and '.join(scene.modalities)}"
            )
    _check_public(config, settings, scene)
    uses = method.needs(settings) & {"generator", "public"}
    if uses and not _shows(scene):
        for_what = "for its generator" if "generator" in uses else "in a public set"
        others = [m for m in METHODS.usable() if set(takes(m)) & set(scene.train) and not _needs_pictures(m)]
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


def _check_public(config: Config, settings: Any, scene: FederatedDataset) -> None:
    """Raises BadInput where a generator is to be tuned or scored on public pictures and there are none."""
    if scene.public is not None and len(scene.public):
        return
    if generic := config.evaluation.generic:
        raise BadInput(
            f"evaluation.generic = {generic}: the data has no public part (data.options.generic_share), so that what a "
            "generator forgets cannot be scored; allowed: 0"
        )
    share = settings.public_share if isinstance(settings, TuningSettings) else None
    if share:
        raise BadInput(f"settings.public_share = {share}: the data has no public part, allowed: 0")


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


def check_canaries(config: Config) -> None:
    """Raises BadInput where there are canaries to plant and clients that cannot have any."""
    if config.data.canaries is None:
        return
    if own_data(config):
        raise BadInput("data.canaries: silos train on data of their own, which nobody adds to; allowed: null")
    for task in (t for t in ClientTask if t not in SINGLE_MODALITY and config.clients.names(t)):
        raise BadInput(f"data.canaries: there are none for clients.{task}; allowed: image, text")


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
        "server.": "models" in uses,
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
    from fedloom.models.evaluators.frozen_towers import check_towers
    from fedloom.models.generators.autoencoder import check_autoencoder
    from fedloom.models.pretrained import pretrained_config

    uses, server, scored = method.needs(settings), config.server, config.evaluation
    for device in (
        server.device,
        *(config.clients.devices if method.tasks and not own_data(config) else ()),
    ):
        device_of(device)
    if "captioner" in uses and reads_captions(config, method, settings):
        if server.captioner.pretrained:
            check_captioner(server.captioner.pretrained)
        if server.captioner.retrieve:
            pretrained_config("server.captioner.retrieve", server.captioner.retrieve)
    if "generator" not in uses:
        return
    if server.generator.autoencoder:
        check_autoencoder(server.generator.autoencoder)
    for own in (server.clip, scored.clip):
        if own is not None and own.pretrained:
            check_clip(own.pretrained)
    if scored.clip is not None and scored.clip.towers:
        check_towers(scored.clip.towers)
    if scored.features:
        check_features(scored.features)
    if scored.judge.pretrained:
        pretrained_config("evaluation.judge", scored.judge.pretrained)


def reads_captions(config: Config, method: Method, settings: Any) -> bool:
    """Captions are read by text clients, and by a generator tuned on them."""
    work = method.server.workload(settings, config.clients.batch)
    return bool(method.tasks and config.clients.text) or work is None or work.captions


def own_data(config: Config) -> bool:
    """Whether clients bring data of their own, so that the server has none to share out."""
    return config.engine.name == "flower" and config.engine.mode == "deployment"
