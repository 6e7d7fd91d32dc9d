"""A real silo's client: what the silo says of itself, and the client built where the data is, from the server's offer.

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

from fedloom import __version__
from fedloom.config.models import ModelSettings
from fedloom.config.silo import SiloSettings
from fedloom.config.trees import validate
from fedloom.errors import BadInput
from fedloom.experiment.client_builder import ClientBuilder, picture_side, reads
from fedloom.experiment.private import check_grant, check_whole
from fedloom.experiment.public_files import pack_public, public_backbone, unpack_public, written_whole
from fedloom.experiment.silo_data import own_samples
from fedloom.experiment.silo_offer import Offer, at_the_silo, check_part, joint_model, make_offer
from fedloom.federation.contract import WireContract
from fedloom.tasks import ClientTask, Modality

if TYPE_CHECKING:
    from fedloom.methods.context import ClientContext

__all__ = [
    "build_silo_client",
    "describe_data",
    "describe_silo",
    "export_silo_client",
    "make_offer",
    "pack_public",
    "picture_side",
    "prepare_run",
    "unpack_public",
]
log = logging.getLogger(__name__)


def describe_silo(silo: Mapping[str, Any]) -> dict[str, Any]:
    """What a silo tells the server at joining, ready for JSON: `name`, `modality`, `model`. No path leaves.

    `model` is None where a multimodal silo takes the run's.

    Raises:
        BadInput: `silo` is no `SiloSettings`.
    """
    own: SiloSettings = validate(SiloSettings, silo, "silo")
    model = None
    if own.model is not None:
        model = own.model.model_dump(mode="json")
        model["pretrained"] = at_the_silo(own.model.arch, own.model.pretrained)
    return {"name": own.name, "modality": own.modality, "model": model}


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
        BoundBreach: the run's epsilon, with what other runs have spent, is beyond `bounds.epsilon`.
    """
    own: SiloSettings = validate(SiloSettings, silo, "silo")
    run: Offer = validate(Offer, offer, "offer")
    _check(own, run)
    builder = _builder(name, own, run, Path(public))
    sounds = run.joint.sounds if run.joint else None
    private, test = own_samples(own, builder.class_names, run.image_size, run.seed, builder.modalities, sounds)

    book = _book(name, Path(public))
    if own.bounds.epsilon is not None:
        check_grant(own.bounds.epsilon, run.privacy, book, private)

    def start(context: ClientContext) -> None:
        if warm:
            context.train_private(run.training.warm_steps, 0, "warm")

    client = builder.client(
        run.method,
        run.settings,
        start,
        private,
        test,
        server=partial(_server_like, own, run, Path(public)) if run.server else None,
        **({"fold": run.fold} if own.modality == ClientTask.RETRIEVAL else {}),
        **_training(own, run),
        book=book,
        **({"privacy": run.privacy} if run.privacy else {}),
    )
    client.context.export = partial(export_silo_client, client, builder)
    log.info(describe_data(client, builder.class_names))
    return client


def _book(name: str, public: Path) -> Path:
    """Where a client's spent privacy is kept: beside the run's public files, in no state that is ever set back."""
    return public.parent / "privacy" / f"{name}.json"


def _builder(name: str, silo: SiloSettings, run: Offer, public: Path) -> ClientBuilder:
    """The builder of the silo's client. Multimodal ones share parameters and start alike, from no public data."""
    model = _model(silo, run)
    multimodal = silo.modality == ClientTask.MULTIMODAL_CLASSIFICATION
    return ClientBuilder(
        name=name,
        task=silo.modality,
        settings=model,
        seed=run.seed,
        class_names=run.names_of(silo.modality),
        image_size=run.image_size,
        modalities=run.streams_of(silo.modality),
        tokenizer=str(public / "tokenizer"),
        tokens=run.tokens,
        backbones=[] if multimodal else [public_backbone(public, tower) or "" for tower in model.towers()],
    )


def _training(silo: SiloSettings, run: Offer) -> dict[str, Any]:
    """How the client trains, as the run says, and computes, as the silo says: by the names of `ClientContext`."""
    own = silo.model_dump(include={"device", "precision", "accumulate", "checkpointing"})
    return run.training.model_dump(exclude={"warm_steps"}) | own


def _server_like(silo: SiloSettings, run: Offer, public: Path, modality: ClientTask) -> ClientContext:
    """A model like the server's of that modality, without data: `clients.server_context`'s, at a silo.

    Raises BadInput where the offer says nothing of such a model.
    """
    if modality not in run.server:
        raise BadInput(f"the server offers no {modality} model, only: {', '.join(run.server)}")
    builder = ClientBuilder(
        name=f"server-{modality}",
        task=ClientTask(modality),
        settings=run.server[modality],
        seed=run.seed,
        image_size=run.image_size,
        tokenizer=str(public / "tokenizer"),
        tokens=run.tokens,
    )
    return builder.context(**_training(silo, run))


def describe_data(client: Any, class_names: Sequence[str]) -> str:
    """One line for the silo's own log: its samples, all and by class. Never sent."""
    if client.context.modality == ClientTask.RETRIEVAL:
        held = client.context.samples
        parts = (
            f"{len(held[part])} {word} pictures with {len(held[part].captions)} captions"
            for part, word in (("private", "training"), ("test", "test"))
        )
        return f"{client.context.name}: {' and '.join(parts)}"
    train, test = (
        np.bincount(labels.numpy(), minlength=len(class_names))
        for labels in (client.context.private_labels, client.context.test_labels)
    )
    held = [f"{n} {a}/{b}" for n, a, b in zip(class_names, train, test) if a or b]
    lacks = [n for n, a, b in zip(class_names, train, test) if not (a or b)]
    line = (
        f"{client.context.name}: {train.sum()} training and {test.sum()} test samples ({client.context.modality}) of "
        f"{len(held)} of {len(class_names)} classes, training/test: {', '.join(held)}"
    )
    if client.context.modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        a, b = (client.context.samples[part].present for part in ("private", "test"))
        line += f"; with {', '.join(f'{kind} {a[kind].sum()}/{b[kind].sum()}' for kind in a)}"
    return line + (f"; none of: {', '.join(lacks)}" if lacks else "")


def export_silo_client(client: Any, builder: ClientBuilder, out: Path) -> None:
    """Write the client's trained model as a transformers folder `out`, whole or not at all; it replaces one there.

    Raises:
        FedloomError: the disk is full, or the place cannot be written.
    """
    with written_whole(out) as new:
        builder.write(client.context.model, new)


def _check(silo: SiloSettings, offer: Offer) -> None:
    """Raise BadInput where silo and server cannot work together, before anything is read."""
    ours, theirs = (version.split(".")[:2] for version in (__version__, offer.version))
    if ours != theirs:
        raise BadInput(
            f"the server runs fedloom {offer.version}, this silo {__version__}: the first two numbers must be the same"
        )
    if silo.model is not None and silo.model.width != offer.width:
        raise BadInput(f"model.width = {silo.model.width}, allowed: {offer.width}, as the federation's")
    check_part(offer.method, silo.modality)
    if silo.modality == ClientTask.MULTIMODAL_CLASSIFICATION and offer.joint is None:
        raise BadInput("modality = 'joint': the run has no multimodal clients")
    if Modality.IMAGE in reads(silo.modality, offer.streams_of(silo.modality)) and not offer.image_size:
        raise BadInput(f"modality = {silo.modality!r}: the run has no pictures, allowed: 'text'")
    if offer.privacy is not None:  # whatever the server says of the method, this is known here
        from fedloom.methods.base import load_method

        kind, _ = load_method(offer.method)
        check_whole(kind, validate(kind.settings, offer.settings, "settings"), offer.training.batch)


def _model(silo: SiloSettings, offer: Offer) -> ModelSettings:
    """The silo's model as the method needs it. Raises BadInput where it cannot be that."""
    if silo.modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        assert offer.joint is not None  # _check
        return joint_model(silo.model, offer.joint.model)
    assert silo.model is not None  # SiloSettings
    if not offer.unit or silo.modality == ClientTask.RETRIEVAL:  # a dual encoder's rows have unit length as they are
        return silo.model
    model: ModelSettings = validate(ModelSettings, {**silo.model.model_dump(), "unit": True}, "model")
    return model
