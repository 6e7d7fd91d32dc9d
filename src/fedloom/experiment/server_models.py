"""Task models on the server: built like the clients', from the server's own random streams, without data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedloom.config import Config
from fedloom.config.models import ModelSettings
from fedloom.data.containers import FederatedDataset, Samples
from fedloom.data.joint import MultimodalSamples
from fedloom.data.tasks import ClientTask, Modality
from fedloom.errors import BadInput
from fedloom.experiment.pretraining import Assets

if TYPE_CHECKING:
    from fedloom.methods.context import ClientContext
from fedloom.experiment.client_parts import (
    backbones_of,
    features_once,
    folder_of,
    new_client_model,
    picture_side,
    site_class,
    site_tokenizer,
    start_from,
    start_name,
)


def server_settings(config: Config, modality: ClientTask) -> ModelSettings:
    """The server's own model of that modality: as configured, else of the largest client architecture.

    Raises BadInput where there is none to build it like.
    """
    if modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        return config.clients.learners(ClientTask.MULTIMODAL_CLASSIFICATION)[0]
    own: ModelSettings | None = getattr(config.server, modality)
    if own is not None:
        return own.model_copy(update={"unit": config.clients.groups[0].unit})
    which = 0 if modality == ClientTask.IMAGE_CLASSIFICATION else -1
    alike = [
        *config.clients.learners(modality),
        *(x.towers()[which].model_copy(update={"unit": x.unit}) for x in config.clients.learners(ClientTask.RETRIEVAL)),
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
    modality: ClientTask,
    classes: int = 1,
    streams: tuple[Modality, ...] = (),
    device: str = "cpu",
) -> ClientContext:
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
    settings: ModelSettings,
    modality: ClientTask,
    words: Any,
    seed: int,
    image_size: int,
    classes: int = 1,
    streams: tuple[Modality, ...] = (),
    **training: Any,
) -> ClientContext:
    """A site without data around a random model from the server's stream; training: what `Site` takes of it."""
    name, none = f"server-{modality}", nothing(modality, image_size, streams)
    learner = new_client_model(
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
        model=learner,
        tokenizer=words,
        private=none,
        test=none,
        seed=seed,
        **training,
    )


def server_learner(config: Config, scene: FederatedDataset, assets: Assets, modality: ClientTask) -> ClientContext:
    """A task model on the server, as `server_settings` says, from its public backbone, without data.

    Raises BadInput when the server cannot build one: nothing to build it like, or weights elsewhere.
    """
    classes, streams = (
        len(scene.names_of(modality)),
        scene.modalities if modality == ClientTask.MULTIMODAL_CLASSIFICATION else (),
    )
    site = bare_server(
        config,
        picture_side(scene),
        folder_of(assets.tokenizer),
        modality,
        classes,
        streams,
        config.server.device,
    )
    start_from(site.model, backbones_of(server_settings(config, modality), assets))
    return site


def nothing(modality: ClientTask, image_size: int, streams: tuple[Modality, ...] = ()) -> Samples:
    """No samples of that modality."""
    from fedloom.data.containers import ImageSet, TextSet

    none = np.zeros(0, dtype=np.int64)
    if modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        blanks: dict[Modality, Any] = {
            Modality.AUDIO: np.zeros((0, 1, 1), dtype=np.float32),
            Modality.IMAGE: np.zeros((0, 1, image_size, image_size, 3), dtype=np.uint8),
            Modality.TEXT: (),
        }
        return MultimodalSamples({kind: blanks[kind] for kind in streams}, none)
    if modality == ClientTask.IMAGE_CLASSIFICATION:
        return ImageSet(np.zeros((0, image_size, image_size, 3), dtype=np.uint8), none)
    return TextSet((), none)
