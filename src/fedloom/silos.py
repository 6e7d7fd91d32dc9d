"""A real silo's client: what the silo says of itself, what the server offers, and the client built where the data is.

The silo decides about its data and its model. The server sends names, numbers and public files, never code. Importing
this is light; `build_silo_client` brings torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from fedloom import __version__
from fedloom.config import ClientsSettings, Config, validate
from fedloom.data.scene import Modality
from fedloom.deployment.settings import SiloSettings
from fedloom.errors import BadInput
from fedloom.federation.contract import WireContract
from fedloom.models.settings import DUAL_ARCHS, Frozen, LearnerSettings
from fedloom.public import pack_public, public_backbone, unpack_public, written_whole
from fedloom.silo_data import class_positions, own_samples
from fedloom.sites import (
    new_client,
    new_learner,
    reads_texts,
    server_settings,
    server_site,
    side_of,
    site_tokenizer,
    start_from,
)

if TYPE_CHECKING:
    from fedloom.methods.base import Method
    from fedloom.methods.site import Site

__all__ = [
    "Offer",
    "at_the_silo",
    "build_silo_client",
    "describe_data",
    "describe_silo",
    "export_silo_client",
    "make_offer",
    "pack_public",
    "picture_side",
    "prepare_run",
    "server_models",
    "unit_demanded",
    "unpack_public",
]
log = logging.getLogger(__name__)

AT_THE_SILO = "(at the silo)"  # said to the server in place of a path
NO_LIMIT = 100_000  # tokens; a tokenizer that says more than this has not been told how long its texts may be


class Training(Frozen):
    """How clients train on their own data; see `config.ClientsSettings`."""

    batch: int = Field(ge=1)
    rate: float = Field(gt=0)
    decay: float = Field(ge=0)
    augment: bool
    warm_steps: int = Field(ge=0)


class Offer(Frozen):
    """What a silo's client needs to know of a run. image_size: side of the run's pictures in pixels, 0: it has none."""

    version: str = Field(description="of the server's fedloom")
    method: str
    settings: dict[str, Any]
    seed: int = Field(ge=0)
    width: int = Field(ge=2, description="d, the representation width of all clients")
    class_names: tuple[str, ...] = Field(min_length=1)
    text_class_names: tuple[str, ...] = Field((), description="of texts; empty: the same as of pictures")
    image_size: int = Field(ge=0)
    tokens: int = Field(ge=4, description="longest text in tokens where a tokenizer knows no limit")
    training: Training
    unit: bool = Field(False, description="whether the method needs representations of unit length")
    fold: int | None = Field(None, ge=2, description="see `config.EvaluationSettings`")
    server: dict[Modality, LearnerSettings] = Field(
        default_factory=dict, description="the server's models, where a method sends them to clients"
    )

    @field_validator("server")
    @classmethod
    def _sizes_only(cls, value: dict[Modality, LearnerSettings]) -> dict[Modality, LearnerSettings]:
        if any(learner.pretrained for learner in value.values()):
            raise ValueError("a silo loads no weights of the server's naming, allowed for pretrained: null")
        return value

    def names_of(self, modality: Modality) -> tuple[str, ...]:
        """The class names of a modality; pairs have none."""
        if modality == "pair":
            return ()
        return (modality == "text" and self.text_class_names) or self.class_names


def describe_silo(silo: Mapping[str, Any]) -> dict[str, Any]:
    """What a silo tells the server at joining, ready for JSON: `name`, `modality`, `model`. No path leaves.

    Raises:
        BadInput: `silo` is no `SiloSettings`.
    """
    own: SiloSettings = validate(SiloSettings, silo, "silo")
    model = own.model.model_dump(mode="json")
    model["pretrained"] = at_the_silo(own.model.arch, own.model.pretrained)
    return {"name": own.name, "modality": own.modality, "model": model}


def at_the_silo(arch: Any, pretrained: Any) -> str | None:
    """What stands for a silo's own weights at the server: of a model of two, one word for each that has some."""
    if not pretrained:
        return None
    if arch != "pair" and arch not in DUAL_ARCHS:
        return AT_THE_SILO
    return "+".join(AT_THE_SILO if part else "" for part in str(pretrained).split("+", 2))


picture_side = side_of


def unit_demanded(method: Method, settings: Any) -> bool:
    """Whether clients of pictures or texts must have representations of unit length, whatever is configured."""
    return method.models(settings, ClientsSettings()).groups[0].unit


def server_models(config: Config) -> dict[Modality, LearnerSettings]:
    """The server's models that clients are sent, by modality; none where the method sends none.

    Raises:
        BadInput: there is nothing to build one like, or it starts from weights that a silo does not have.
    """
    from fedloom.methods.base import load_method

    if not load_method(config.method)[0].sends_models:
        return {}
    kinds: tuple[Modality, ...] = ("image", "text")
    found = {m: server_settings(config, m) for m in kinds}
    for m, learner in found.items():
        if learner.pretrained:
            raise BadInput(
                f"{config.method} sends the server's {m} model to the silos, and they cannot rebuild one that "
                f"starts from weights of its own (pretrained = {learner.pretrained!r}): set server.{m} to a model "
                "without pretrained"
            )
    return found


def make_offer(
    config: Config, class_names: Sequence[str], image_size: int, text_class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """The `Offer` of a run, ready for JSON.

    Args:
        config: of the run, its settings already fitted to the modalities that have joined.
        class_names: C names.
        image_size: side of the run's pictures in pixels, 0 where it has none.
        text_class_names: of texts, where they have a label space of their own.

    Raises:
        BadInput: an unknown method, a wrong setting, class names that silos could not tell apart, or see
            `server_models`.
    """
    from fedloom.methods.base import load_method

    class_positions(class_names)
    class_positions(text_class_names)
    method, fixed = load_method(config.method)
    settings = validate(method.settings, {**config.settings, **fixed}, "settings")
    c = config.clients
    return Offer(
        version=__version__,
        method=config.method,
        settings=settings.model_dump(mode="json"),
        seed=config.seed,
        width=c.width,
        class_names=tuple(class_names),
        text_class_names=tuple(text_class_names),
        image_size=image_size,
        tokens=config.server.tokens,
        training=Training(
            batch=c.batch, rate=c.rate, decay=c.decay, augment=c.augment, warm_steps=c.warm_steps
        ),
        unit=unit_demanded(method, settings),
        fold=config.evaluation.fold,
        server=server_models(config),
    ).model_dump(mode="json")


def prepare_run(offer: Mapping[str, Any], files: Mapping[str, Any], folder: Path) -> WireContract:
    """Lays the public files down in `folder` and gives the wire contract of the offered method.

    Raises:
        BadInput: the offer, or a file, is none that a silo takes.
    """
    from fedloom.methods.base import load_method

    run: Offer = validate(Offer, offer, "offer")
    method, _ = load_method(run.method)
    contract = method.contract(validate(method.settings, run.settings, "settings"))
    unpack_public(files, folder)
    return contract


def build_silo_client(
    *, name: str, silo: Mapping[str, Any], offer: Mapping[str, Any], public: str, warm: bool = True
) -> Any:
    """The client half of the offered method over the silo's own data and model, warm-started.

    Called in the silo's resident worker, whose threads are settled before. The same silo, offer and threads give the
    same bits; with a `share` of the run's own data set, those of `sites.build_client` with an iid partition.

    Args:
        name: of the client.
        silo: `SiloSettings`.
        offer: what `make_offer` gave.
        public: folder that `unpack_public` filled.
        warm: False skips the warm start, for a client that takes up a saved state next.

    Raises:
        BadInput: data or model do not fit the offer, or cannot be read.
    """
    own: SiloSettings = validate(SiloSettings, silo, "silo")
    run: Offer = validate(Offer, offer, "offer")
    _check(own, run)
    own, place, names = _as_demanded(own, run), Path(public), run.names_of(own.modality)
    private, test = own_samples(own, names, run.image_size, run.seed)
    words = None
    if reads_texts(own.model):
        words = _tokenizer(own, place, run.tokens)
    learner = new_learner(
        own.model,
        run.seed,
        name,
        classes=len(names),
        image_size=run.image_size,
        tokenizer=words,
    )
    _fit_start(learner, own, place, run.image_size)

    def start(site: Any) -> None:
        if warm:
            site.train_private(run.training.warm_steps, 0, "warm")

    client = new_client(
        run.method,
        run.settings,
        start,
        name=name,
        modality=own.modality,
        learner=learner,
        tokenizer=words,
        private=private,
        test=test,
        seed=run.seed,
        server=partial(_server_like, run, place) if run.server else None,
        **({"fold": run.fold} if own.modality == "pair" else {}),
        **run.training.model_dump(exclude={"warm_steps"}),
    )
    shown = words if own.modality != "image" else None
    client.site.export = partial(export_silo_client, client, names, shown)
    log.info(describe_data(client, names))
    return client


def _server_like(run: Offer, public: Path, modality: Modality) -> Site:
    """A model like the server's of that modality, with random weights and no data: `sites.bare_server`'s at a silo.

    Raises BadInput where the offer says nothing of such a model.
    """
    if modality not in run.server:
        raise BadInput(f"the server offers no {modality} model, only: {', '.join(run.server)}")
    settings, training = run.server[modality], run.training.model_dump(exclude={"warm_steps"})
    words = site_tokenizer(settings, str(public / "tokenizer"), run.tokens)
    return server_site(settings, modality, words, run.seed, run.image_size, **training)


def describe_data(client: Any, class_names: Sequence[str]) -> str:
    """One line for the silo's own log: its samples, all and by class. Never sent."""
    if client.site.modality == "pair":
        held = client.site.samples
        parts = (
            f"{len(held[part])} {word} pictures with {len(held[part].captions)} captions"
            for part, word in (("private", "training"), ("test", "test"))
        )
        return f"{client.site.name}: {' and '.join(parts)}"
    train, test = (
        np.bincount(labels.numpy(), minlength=len(class_names))
        for labels in (client.site.private_labels, client.site.test_labels)
    )
    held = [f"{n} {a}/{b}" for n, a, b in zip(class_names, train, test) if a or b]
    lacks = [n for n, a, b in zip(class_names, train, test) if not (a or b)]
    line = (
        f"{client.site.name}: {train.sum()} training and {test.sum()} test samples ({client.site.modality}) of "
        f"{len(held)} of {len(class_names)} classes, training/test: {', '.join(held)}"
    )
    return line + (f"; none of: {', '.join(lacks)}" if lacks else "")


def export_silo_client(client: Any, class_names: Sequence[str], tokenizer: Any | None, out: Path) -> None:
    """Write the client's trained model as a transformers folder `out`, whole or not at all.

    Args:
        client: what `build_silo_client` gave.
        class_names: of the offer, for the client's modality.
        tokenizer: of a client of texts or pairs (`client.site.tokenizer`), None for pictures.
        out: replaced where it exists.

    Raises:
        FedloomError: the disk is full, or the place cannot be written.
    """
    from fedloom.exporting import write_learner

    with written_whole(out) as new:
        write_learner(client.site.learner, class_names, tokenizer, client.site.side, new)


def _check(silo: SiloSettings, offer: Offer) -> None:
    """Raise BadInput where silo and server cannot work together, before anything is read."""
    ours, theirs = (version.split(".")[:2] for version in (__version__, offer.version))
    if ours != theirs:
        raise BadInput(
            f"the server runs fedloom {offer.version}, this silo {__version__}: "
            "the first two numbers must be the same"
        )
    if silo.model.width != offer.width:
        raise BadInput(f"model.width = {silo.model.width}, allowed: {offer.width}, as the federation's")
    if silo.modality != "text" and not offer.image_size:
        raise BadInput(f"modality = {silo.modality!r}: the run has no pictures, allowed: 'text'")
    if silo.modality == "pair":
        from fedloom.methods.base import load_method

        if not load_method(offer.method)[0].pairs:
            raise BadInput(f"modality = 'pair': {offer.method} has no part for clients of pairs")


def _as_demanded(silo: SiloSettings, offer: Offer) -> SiloSettings:
    """The silo with its model as the method needs it. Raises BadInput where such a model cannot be that."""
    if not offer.unit or silo.modality == "pair":  # a dual encoder's rows have unit length as they are
        return silo
    model = validate(LearnerSettings, {**silo.model.model_dump(), "unit": True}, "model")
    return silo.model_copy(update={"model": model})


def _tokenizer(silo: SiloSettings, public: Path, tokens: int) -> Any:
    """The tokenizer of the silo's own text model, else the public one; rows of at most `tokens` if it has no limit."""
    try:
        words = site_tokenizer(silo.model, str(public / "tokenizer"), tokens)
    except (OSError, ValueError) as error:
        given = silo.model.pretrained
        where = f"model.pretrained = {given!r}" if given else str(public / "tokenizer")
        why = " ".join(str(error).split())
        raise BadInput(f"{where}: cannot load a tokenizer: {why}") from None
    if words.model_max_length > NO_LIMIT:
        words.model_max_length = tokens
    return words


def _fit_start(learner: Any, silo: SiloSettings, public: Path, side: int) -> None:
    """Start from the public backbones where there are some; check that weights of the silo's own read such pictures."""
    from safetensors import SafetensorError

    from fedloom.models.learner import towers

    built = towers(learner)
    reads = getattr(getattr(getattr(built[0], "backbone", None), "config", None), "image_size", side)
    if silo.modality != "text" and reads != side:
        raise BadInput(
            f"model.pretrained: reads pictures of side {reads}, the federation's have side {side} pixels; allowed: "
            f"weights for side {side}, resnet, or frozen-mobilenet"
        )
    for tower, model in zip(built, silo.model.towers()):
        if (folder := public_backbone(public, model)) is None:
            continue
        try:
            start_from(tower, [folder])
        except (SafetensorError, RuntimeError, OSError) as error:
            why = str(error).strip().splitlines()[0]
            raise BadInput(f"{folder}: does not fit a {model.arch} of these sizes: {why}") from None
