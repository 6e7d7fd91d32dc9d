"""A real silo's client: what the silo says of itself, what the server offers, and the client built where the data is.

The silo decides about its data and its model. The server sends names, numbers and public files, never code. Importing
this is light; `build_silo_client` brings torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from fedloom import __version__
from fedloom.config import Config, validate
from fedloom.data.scene import ImageSet, Scene
from fedloom.deployment.settings import SiloSettings
from fedloom.errors import BadInput
from fedloom.federation.contract import WireContract
from fedloom.models.settings import Frozen, LearnerSettings
from fedloom.public import pack_public, public_backbone, unpack_public, written_whole
from fedloom.silo_data import class_positions, own_samples
from fedloom.sites import new_client, new_learner, site_tokenizer, start_from, words_of

__all__ = [
    "Offer",
    "build_silo_client",
    "describe_data",
    "describe_silo",
    "export_silo_client",
    "make_offer",
    "pack_public",
    "prepare_run",
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
    """What a silo's client needs to know of a run. image_size: side in pixels of the server's synthetic pictures."""

    version: str = Field(description="of the server's fedloom")
    method: str
    settings: dict[str, Any]
    seed: int = Field(ge=0)
    width: int = Field(ge=2, description="d, the representation width of all clients")
    class_names: tuple[str, ...] = Field(min_length=1)
    image_size: int = Field(ge=1)
    tokens: int = Field(ge=4, description="longest text in tokens where a tokenizer knows no limit")
    training: Training


def describe_silo(silo: Mapping[str, Any]) -> dict[str, Any]:
    """What a silo tells the server at joining, ready for JSON: `name`, `modality`, `model`. No path leaves.

    Raises:
        BadInput: `silo` is no `SiloSettings`.
    """
    own: SiloSettings = validate(SiloSettings, silo, "silo")
    model = own.model.model_dump(mode="json")
    if model["pretrained"] is not None:
        model["pretrained"] = AT_THE_SILO
    return {"name": own.name, "modality": own.modality, "model": model}


def picture_side(scene: Scene) -> int:
    """Side of the scene's pictures in pixels; 0 where it has none."""
    pictures = scene.train.get("image") or scene.test.get("image")
    return pictures.images.shape[1] if isinstance(pictures, ImageSet) else 0


def make_offer(config: Config, class_names: Sequence[str], image_size: int) -> dict[str, Any]:
    """The `Offer` of a run, ready for JSON.

    Args:
        config: of the run, its settings already fitted to the modalities that have joined.
        class_names: C names.
        image_size: side in pixels of the server's synthetic pictures.

    Raises:
        BadInput: an unknown method, a wrong setting, or class names that silos could not tell apart.
    """
    from fedloom.methods.base import load_method

    class_positions(class_names)
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
        image_size=image_size,
        tokens=config.server.tokens,
        training=Training(
            batch=c.batch, rate=c.rate, decay=c.decay, augment=c.augment, warm_steps=c.warm_steps
        ),
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
    private, test = own_samples(own, run.class_names, run.image_size, run.seed)
    words = None
    if own.modality == "text" or own.model.arch == "pair":
        words = _tokenizer(words_of(own.model, own.modality), Path(public), run.tokens)
    learner = new_learner(
        own.model,
        run.seed,
        name,
        classes=len(run.class_names),
        image_size=run.image_size,
        tokenizer=words,
    )
    _fit_start(learner, own.model, Path(public), run.image_size)

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
        **run.training.model_dump(exclude={"warm_steps"}),
    )
    shown = words if own.modality == "text" else None
    client.site.export = partial(export_silo_client, client, run.class_names, shown)
    log.info(describe_data(client, run.class_names))
    return client


def describe_data(client: Any, class_names: Sequence[str]) -> str:
    """One line for the silo's own log: its samples, all and by class. Never sent."""
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
        class_names: of the offer.
        tokenizer: a text client's (`client.site.tokenizer`), None for pictures.
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


def _tokenizer(pretrained: str | None, public: Path, tokens: int) -> Any:
    """The tokenizer of the silo's own text model, else the public one; rows of at most `tokens` if it has no limit."""
    try:
        words = site_tokenizer(pretrained, str(public / "tokenizer"))
    except (OSError, ValueError) as error:
        where = f"model.pretrained = {pretrained!r}" if pretrained else str(public / "tokenizer")
        why = " ".join(str(error).split())
        raise BadInput(f"{where}: cannot load a tokenizer: {why}") from None
    if words.model_max_length > NO_LIMIT:
        words.model_max_length = tokens
    return words


def _fit_start(learner: Any, model: LearnerSettings, public: Path, side: int) -> None:
    """Start from the public backbone where there is one; check that weights of the silo's own read such pictures."""
    reads = getattr(getattr(getattr(learner, "backbone", None), "config", None), "image_size", side)
    if reads != side:
        raise BadInput(
            f"model.pretrained: reads pictures of side {reads}, the federation's have side {side} pixels; allowed: "
            f"weights for side {side}, resnet, or frozen-mobilenet"
        )
    backbones = [folder for tower in model.towers() if (folder := public_backbone(public, tower)) is not None]
    if len(backbones) < len(model.towers()):
        return
    from safetensors import SafetensorError

    try:
        start_from(learner, backbones)
    except (SafetensorError, RuntimeError, OSError) as error:
        why = str(error).strip().splitlines()[0]
        raise BadInput(f"{backbones[0]}: does not fit a {model.arch} of these sizes: {why}") from None
