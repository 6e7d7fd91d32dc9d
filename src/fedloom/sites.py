"""Clients built from the configuration: the factory that every engine calls at a site, and the warm start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from fedloom.config import Config
from fedloom.data.corruption import corrupt
from fedloom.data.joint import JointSet, Kind
from fedloom.data.pairs import PairSet
from fedloom.data.scene import MODALITIES, Held, Modality, Samples, Scene
from fedloom.errors import BadInput
from fedloom.federation.site import SiteSpec
from fedloom.models.settings import TEXT_ARCHS, LearnerSettings
from fedloom.pretraining import Assets, backbone_name, fingerprint, load_tokenizer, weights_print
from fedloom.randomness import numpy_stream
from fedloom.runs.cache import cached
from fedloom.scenes import cached_scene, split_scene
from fedloom.setting_trees import validate
from fedloom.weights import hub_arguments, placed

if TYPE_CHECKING:
    from fedloom.methods.site import Site

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
        "tokenizer": folder_of(assets.tokenizer),
    }

    return [
        SiteSpec(
            name,
            modality,
            "fedloom.sites:build_client",
            {**arguments, "modality": modality, "index": i, "backbones": starts[i]},
        )
        for modality, names in client_names(config).items()
        for starts in [_starts(config, modality, assets)]
        for i, name in enumerate(names)
    ]


def backbones_of(learner: LearnerSettings, assets: Assets) -> list[str]:
    """The folder that each of a learner's towers starts from, "" for one with weights of its own; none without any."""
    names = ["" if tower.pretrained else backbone_name(tower) for tower in learner.towers()]
    found = [str(assets.backbones[name]) if name in assets.backbones else "" for name in names]
    return found if any(found) else []


def _starts(config: Config, modality: Modality, assets: Assets) -> list[list[str]]:
    """What each client of a modality starts from."""
    learners = config.clients.learners(modality)
    public = (
        config.clients.public_steps and modality != "joint"
    )  # joint clients start alike, from no public data
    return [backbones_of(x, assets) if public else [] for x in learners]


def folder_of(tokenizer: Path | None) -> str:
    """The public tokenizer's folder as text: "" where nobody reads with it."""
    return "" if tokenizer is None else str(tokenizer)


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
    backbones: list[str],
) -> Any:
    """A client with its share of the data, warm-started. Called where the client lives."""
    from fedloom.exporting import write_learner
    from fedloom.methods.base import load_method

    run: Config = validate(Config, config)
    scene = cached_scene(run.data)
    private = private_samples(run, scene, modality, index)
    learner_settings = run.clients.learners(modality)[index]
    words = site_tokenizer(learner_settings, tokenizer, run.server.tokens)
    size = side_of(scene)
    learner = new_learner(
        learner_settings,
        run.seed,
        start_name(name, modality),
        classes=len(scene.names_of(modality)),
        image_size=size,
        tokenizer=words,
        streams=scene.streams if modality == "joint" else (),
    )
    start_from(learner, backbones)
    kind, _ = load_method(method)
    more = {"fold": run.evaluation.fold} if modality == "pair" else {}

    def warm(site: Site) -> None:
        _warm_start(site, run, private, learner_settings, backbones, tokenizer)

    client = new_client(
        method,
        settings,
        warm,
        name=name,
        modality=modality,
        learner=learner,
        tokenizer=words,
        private=private,
        test=scene.test[modality],
        seed=run.seed,
        **run.clients.training(name),
        **run.clients.arithmetic(),
        device=device_for(run, modality, index),
        features=features_once,
        server=partial(bare_server, run, size, tokenizer, device=device_for(run, modality, index))
        if kind.sends_models
        else None,
        **more,
    )
    shown = words if modality != "image" else None
    side = size if "image" in reads(modality, scene.streams) else 0
    client.site.export = partial(write_learner, client.site.learner, scene.names_of(modality), shown, side)
    return client


def device_for(config: Config, modality: Modality, index: int) -> str:
    """The device of client `index` of that modality: the clients take `clients.devices` in turn, in their order."""
    before = sum(len(config.clients.names(m)) for m in MODALITIES[: MODALITIES.index(modality)])
    devices = config.clients.devices
    return devices[(before + index) % len(devices)]


def reads(modality: Modality, streams: Sequence[Kind]) -> tuple[str, ...]:
    """The kinds of data that a client of that modality reads; streams: the scene's."""
    if modality == "joint":
        return tuple(streams)
    return ("image", "text") if modality == "pair" else (modality,)


def start_name(client: str, modality: Modality) -> str:
    """Whose random stream the client's first weights come from: joint clients share parameters, and start alike."""
    return "joint" if modality == "joint" else client


def features_once(learner: Any, inputs: Mapping[str, Any]) -> Any:
    """A learner's frozen features (N, F) of N samples as it takes them, computed once for all runs."""
    import torch

    key = {
        "trunk": learner.looks_with,
        "samples": fingerprint(*(part for k, v in sorted(inputs.items()) for part in ([k], v.numpy()))),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }

    def build(folder: Path) -> None:
        np.save(folder / "features.npy", learner.look(**inputs).numpy(), allow_pickle=False)

    return torch.from_numpy(np.load(cached("features", key, build) / "features.npy", allow_pickle=False))


def side_of(scene: Scene) -> int:
    """Side in pixels of the scene's pictures, 0 where it has none."""
    for samples in (*scene.train.values(), *scene.test.values(), scene.generic):
        images = getattr(samples, "images", None)
        if isinstance(samples, JointSet):
            images = samples.parts.get("image")
        if isinstance(images, np.ndarray) and len(images):
            return int(images.shape[-2])
    return 0


def server_settings(config: Config, modality: Modality) -> LearnerSettings:
    """The server's own model of that modality: as configured, else of the largest client architecture.

    Raises BadInput where there is none to build it like.
    """
    if modality == "joint":
        return config.clients.learners("joint")[0]
    own: LearnerSettings | None = getattr(config.server, modality)
    if own is not None:
        return own.model_copy(update={"unit": config.clients.groups[0].unit})
    which = 0 if modality == "image" else -1
    alike = [
        *config.clients.learners(modality),
        *(x.towers()[which].model_copy(update={"unit": x.unit}) for x in config.clients.learners("pair")),
    ]
    if not alike:
        raise BadInput(
            f"{config.method} needs a {modality} model on the server, and there is nothing to build it like: "
            f"set server.{modality}"
        )
    return max(alike, key=lambda s: (s.hidden * s.layers, s.arch))


def bare_server(
    config: Config,
    image_size: int,
    tokenizer: str,
    modality: Modality,
    classes: int = 1,
    streams: tuple[Kind, ...] = (),
    device: str = "cpu",
) -> Site:
    """A model of the server's own, without data: random weights from the server's stream for that modality.

    image_size: side in pixels; tokenizer: folder of the public one; classes: C, of its head; streams: of a joint one.
    """
    settings = server_settings(config, modality)
    words = site_tokenizer(settings, tokenizer, config.server.tokens)
    return server_site(
        settings,
        modality,
        words,
        config.seed,
        image_size,
        classes,
        streams,
        **config.clients.training(),
        **config.clients.arithmetic(),
        device=device,
        features=features_once,
    )


def server_site(
    settings: LearnerSettings,
    modality: Modality,
    words: Any,
    seed: int,
    image_size: int,
    classes: int = 1,
    streams: tuple[Kind, ...] = (),
    **training: Any,
) -> Site:
    """A site without data around a random model from the server's stream; training: what `Site` takes of it."""
    name, none = f"server-{modality}", nothing(modality, image_size, streams)
    learner = new_learner(
        settings,
        seed,
        start_name(name, modality),
        classes=classes,
        image_size=image_size,
        tokenizer=words,
        streams=streams,
    )
    return site_class(modality)(
        name=name,
        modality=modality,
        learner=learner,
        tokenizer=words,
        private=none,
        test=none,
        seed=seed,
        **training,
    )


def server_learner(config: Config, scene: Scene, assets: Assets, modality: Modality) -> Site:
    """A task model on the server, as `server_settings` says, from its public backbone, without data.

    Raises BadInput when the server cannot build one: nothing to build it like, or weights elsewhere.
    """
    classes, streams = len(scene.names_of(modality)), scene.streams if modality == "joint" else ()
    site = bare_server(
        config, side_of(scene), folder_of(assets.tokenizer), modality, classes, streams, config.server.device
    )
    start_from(site.learner, backbones_of(server_settings(config, modality), assets))
    return site


def nothing(modality: Modality, image_size: int, streams: tuple[Kind, ...] = ()) -> Samples:
    """No samples of that modality."""
    from fedloom.data.scene import ImageSet, TextSet

    none = np.zeros(0, dtype=np.int64)
    if modality == "joint":
        blanks: dict[Kind, Any] = {
            "audio": np.zeros((0, 1, 1), dtype=np.float32),
            "image": np.zeros((0, 1, image_size, image_size, 3), dtype=np.uint8),
            "text": (),
        }
        return JointSet({kind: blanks[kind] for kind in streams}, none)
    if modality == "image":
        return ImageSet(np.zeros((0, image_size, image_size, 3), dtype=np.uint8), none)
    return TextSet((), none)


def new_learner(settings: LearnerSettings, seed: int, name: str, **shape: Any) -> Any:
    """The learner of the client `name`, its random weights from the client's own stream.

    shape: classes, image_size (side in pixels) and tokenizer, as `build_learner` takes them.
    """
    from fedloom.models.learner import build_learner
    from fedloom.randomness import global_torch_stream

    with global_torch_stream(seed, name, "weights"):
        return build_learner(settings, **shape)


def start_from(learner: Any, backbones: Sequence[str | Path]) -> None:
    """Put the public backbones in these folders under the learner's towers, in their order: all but the head.

    A tower whose folder is "" is left as it is.
    """
    import torch

    from fedloom.models.adapters import plain_names
    from fedloom.models.learner import towers

    for tower, folder in zip(towers(learner), backbones):
        if not folder:
            continue
        body = load_file(Path(folder) / "backbone.safetensors")
        known = plain_names(tower)
        tower.load_state_dict({known.get(k, k): torch.from_numpy(v) for k, v in body.items()}, strict=False)


def new_client(method: str, settings: dict[str, Any], warm: Callable[[Site], None], **site: Any) -> Any:
    """The client half of `method` at its site.

    Args:
        method: its name.
        settings: its settings.
        warm: trains the site's model before the method touches it.
        site: what `methods.site.Site` takes.
    """
    from fedloom.methods.base import load_method

    kind, _ = load_method(method)
    own = validate(kind.settings, settings, "settings")
    here = site_class(site["modality"])(**site)
    warm(here)
    here.put_on(lambda learner: kind.dress(learner, own))
    return kind.client(here, own)


def site_class(modality: Modality) -> type[Site]:
    """What a site of that modality is."""
    if modality == "pair":
        from fedloom.methods.pair_site import PairSite

        return PairSite
    if modality == "joint":
        from fedloom.methods.joint_site import JointSite

        return JointSite
    from fedloom.methods.site import Site

    return Site


def private_samples(config: Config, scene: Scene, modality: Modality, index: int) -> Held:
    """The share of client `index` of that modality, with what `data.multi_ratio` and `data.corruption` take from it."""
    clients = len(config.clients.learners(modality))
    held = scene.train[modality].subset(
        split_scene(scene, config.data, clients, modality, config.seed).indices[index]
    )
    if isinstance(held, JointSet):
        held = held.lacking(
            {
                kind: np.ones(len(held), dtype=np.bool_)
                for kind in held.kinds
                if kind not in held_kinds(held.kinds, config.data.multi_ratio, clients, index)
            }
        )
    rng = numpy_stream(config.seed, modality, index, "corruption")
    return corrupt(held, config.data.corruption, len(scene.names_of(modality)), rng).held


def held_kinds(kinds: tuple[Kind, Kind], multi_ratio: float, clients: int, index: int) -> tuple[Kind, ...]:
    """The kinds that joint client `index` of `clients` holds: the first ones both, then those of the first kind."""
    both = int(multi_ratio * clients + 0.5)
    first = both + (clients - both + 1) // 2
    return kinds if index < both else kinds[:1] if index < first else kinds[1:]


def reads_texts(learner: LearnerSettings) -> bool:
    """Whether a client's model needs a tokenizer."""
    return learner.towers()[-1].arch in TEXT_ARCHS


def words_of(learner: LearnerSettings) -> str | None:
    """The weights that a learner's own tokenizer comes with; None where it reads no texts or has no such weights."""
    return learner.towers()[-1].pretrained if reads_texts(learner) else None


def site_tokenizer(learner: LearnerSettings, shared: str, tokens: int = 64) -> Any:
    """The tokenizer that comes with a text learner's own weights, else the public one in the folder `shared`.

    None for a learner that reads no texts. tokens: longest text; what is longer is cut, and rows are padded to it.
    """
    if not reads_texts(learner):
        return None
    pretrained = words_of(learner)
    if pretrained is None:
        return load_tokenizer(Path(shared))
    if learner.towers()[-1].arch == "gru":
        from fedloom.models.gru import gru_tokenizer

        return gru_tokenizer(pretrained, tokens)
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(placed(pretrained), **hub_arguments(pretrained))
    words.model_max_length = min(words.model_max_length, tokens)
    return words


def _warm_start(
    site: Site,
    config: Config,
    private: Held,
    learner: LearnerSettings,
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
            learner.model_dump(mode="json") | {"pretrained": None},
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

    def build(folder: Path) -> None:
        site.train_private(c.warm_steps, 0, "warm")
        tensors = {k: np.asarray(v, order="C") for k, v in site.state().items()}
        save_file(tensors, folder / "client.safetensors")

    folder = cached("warm", key, build)
    site.load_state(load_file(folder / "client.safetensors"))


def _print_of(private: Held) -> str:
    """A digest of a client's samples."""
    if isinstance(private, PairSet):
        return fingerprint(private.images, private.captions, private.owner)
    if isinstance(private, JointSet):
        return fingerprint(*private.parts.values(), *private.present.values(), private.labels)
    return fingerprint(getattr(private, "images", getattr(private, "texts", ())), private.labels)
