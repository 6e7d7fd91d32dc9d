"""What clients, and models of the server's own, are made of: learners, tokenizers, starts, frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from fedloom.config.archs import spec_of
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset
from fedloom.data.joint import MultimodalSamples
from fedloom.data.tasks import ClientTask, Modality
from fedloom.experiment.pretraining import Assets, backbone_name, fingerprint, load_tokenizer
from fedloom.runs.cache import cached
from fedloom.weights import hub_arguments, placed

if TYPE_CHECKING:
    from fedloom.methods.context import ClientContext


def backbones_of(learner: ModelSettings, assets: Assets) -> list[str]:
    """The folder that each of a learner's towers starts from, "" for one with weights of its own; none without any."""
    names = ["" if tower.pretrained else backbone_name(tower) for tower in learner.towers()]
    found = [str(assets.backbones[name]) if name in assets.backbones else "" for name in names]
    return found if any(found) else []


def folder_of(tokenizer: Path | None) -> str:
    """The public tokenizer's folder as text: "" where nobody reads with it."""
    return "" if tokenizer is None else str(tokenizer)


def reads(modality: ClientTask, streams: Sequence[Modality]) -> tuple[Modality, ...]:
    """The modalities that a client of that task reads; streams: the scene's."""
    return ClientTask(modality).spec.reads or tuple(streams)


def start_name(client: str, modality: ClientTask) -> str:
    """Whose random stream the client's first weights come from: joint clients share parameters, and start alike."""
    return ClientTask.MULTIMODAL_CLASSIFICATION if modality == ClientTask.MULTIMODAL_CLASSIFICATION else client


def features_once(learner: Any, inputs: Mapping[str, Any]) -> Any:
    """A learner's frozen features (N, F) of N samples as it takes them, computed once for all runs."""
    import torch

    key = {
        "trunk": learner.features_key,
        "samples": fingerprint(*(part for k, v in sorted(inputs.items()) for part in ([k], v.numpy()))),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }

    def build(folder: Path) -> None:
        np.save(folder / "features.npy", learner.frozen_features(**inputs).numpy(), allow_pickle=False)

    return torch.from_numpy(np.load(cached("features", key, build) / "features.npy", allow_pickle=False))


def picture_side(scene: FederatedDataset) -> int:
    """Side in pixels of the scene's pictures, 0 where it has none."""
    for samples in (*scene.train.values(), *scene.test.values(), scene.public):
        images = getattr(samples, "images", None)
        if isinstance(samples, MultimodalSamples):
            images = samples.parts.get(Modality.IMAGE)
        if isinstance(images, np.ndarray) and len(images):
            return int(images.shape[-2])
    return 0


def new_client_model(settings: ModelSettings, seed: int, name: str, **shape: Any) -> Any:
    """The learner of the client `name`, its random weights from the client's own stream.

    shape: classes, image_size (side in pixels) and tokenizer, as `build_client_model` takes them.
    """
    from fedloom.models.clients.build import build_client_model
    from fedloom.seeding import global_torch_stream

    with global_torch_stream(seed, name, "weights"):
        return build_client_model(settings, **shape)


def start_from(learner: Any, backbones: Sequence[str | Path]) -> None:
    """Put the public backbones in these folders under the learner's towers, in their order: all but the head.

    A tower whose folder is "" is left as it is.
    """
    import torch

    from fedloom.models.clients.adapters import plain_names
    from fedloom.models.clients.client_model import towers

    for tower, folder in zip(towers(learner), backbones):
        if not folder:
            continue
        body = load_file(Path(folder) / "backbone.safetensors")
        known = plain_names(tower)
        tower.load_state_dict({known.get(k, k): torch.from_numpy(v) for k, v in body.items()}, strict=False)


def new_client(method: str, settings: dict[str, Any], warm: Callable[[ClientContext], None], **site: Any) -> Any:
    """The client half of `method` at its site.

    Args:
        method: its name.
        settings: its settings.
        warm: trains the site's model before the method touches it.
        site: what `ClientContext` takes.
    """
    from fedloom.methods.base import load_method

    kind, _ = load_method(method)
    own = validate(kind.settings, settings, "settings")
    here = site_class(site["modality"])(**site)
    warm(here)
    here.attach(lambda learner: kind.wrap_model(learner, own))
    return kind.client(here, own)


def site_class(modality: ClientTask) -> type[ClientContext]:
    """What a site of that modality is."""
    if modality == ClientTask.RETRIEVAL:
        from fedloom.methods.retrieval_context import RetrievalContext

        return RetrievalContext
    if modality == ClientTask.MULTIMODAL_CLASSIFICATION:
        from fedloom.methods.multimodal_context import MultimodalContext

        return MultimodalContext
    from fedloom.methods.context import ClientContext

    return ClientContext


def reads_texts(learner: ModelSettings) -> bool:
    """Whether a client's model needs a tokenizer."""
    return learner.text_tower is not None


def words_of(learner: ModelSettings) -> str | None:
    """The weights that a learner's own tokenizer comes with; None where it reads no texts or has no such weights."""
    return learner.towers()[-1].pretrained if reads_texts(learner) else None


def site_tokenizer(learner: ModelSettings, shared: str, tokens: int = 64) -> Any:
    """The tokenizer that comes with a text learner's own weights, else the public one in the folder `shared`.

    None for a learner that reads no texts. tokens: longest text; what is longer is cut, and rows are padded to it.
    """
    if not reads_texts(learner):
        return None
    pretrained = words_of(learner)
    if pretrained is None:
        return load_tokenizer(Path(shared))
    if (own := spec_of(learner.towers()[-1].arch).tokenizer) is not None:
        return own(pretrained, tokens)
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(placed(pretrained), **hub_arguments(pretrained))
    words.model_max_length = min(words.model_max_length, tokens)
    return words
