"""The one builder of client models and clients: of local runs, of silos, of the server's own models and of exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, proxy

import numpy as np
from safetensors.numpy import load_file

from fedloom.config.archs import spec_of
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.data.containers import FederatedDataset, ImageSet, TextSet
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import BadInput
from fedloom.experiment.pretraining import Assets, backbone_name, fingerprint, load_tokenizer
from fedloom.runs.cache import cached
from fedloom.runs.exports import seal_export
from fedloom.tasks import SINGLE_MODALITY, ClientTask, Modality
from fedloom.weights import hub_arguments, placed

if TYPE_CHECKING:
    from fedloom.methods.context import ClientContext
    from fedloom.models.clients.preprocessing import ImagePreprocessor


@dataclass(frozen=True, kw_only=True)
class ClientBuilder:
    """What a client is.

    Args:
        name: of the client.
        task: what it learns.
        settings: of its model.
        seed: of the run.
        class_names: C names; of a model that nobody classifies with, any one.
        image_size: side of the run's images in pixels, 0 where it has none.
        modalities: the two of multimodal samples.
        tokenizer: folder of the public tokenizer.
        tokens: longest text; what is longer is cut, and rows are padded to it.
        backbones: the folder of the public backbone that each tower starts from, "" for none.
    """

    name: str
    task: ClientTask
    settings: ModelSettings
    seed: int
    class_names: Sequence[str] = ("",)
    image_size: int
    modalities: tuple[Modality, ...] = ()
    tokenizer: str
    tokens: int
    backbones: Sequence[str | Path] = ()

    @cached_property
    def words(self) -> Any:
        """The tokenizer that comes with a text model's own weights, else the public one; None: it reads no texts.

        Raises:
            BadInput: it cannot be loaded.
        """
        if (tower := self.settings.text_tower) is None:
            return None
        own = tower.pretrained
        try:
            if own is None:
                return load_tokenizer(Path(self.tokenizer))
            if (read := spec_of(tower.arch).tokenizer) is not None:
                return read(own, self.tokens)
            from transformers import AutoTokenizer

            words = AutoTokenizer.from_pretrained(placed(own), **hub_arguments(own))
        except (OSError, ValueError) as error:
            where = f"model.pretrained = {self.settings.pretrained!r}" if own else self.tokenizer
            raise BadInput(f"{where}: cannot load a tokenizer: {' '.join(str(error).split())}") from None
        words.model_max_length = min(words.model_max_length, self.tokens)
        return words

    def model(self) -> Any:
        """The client model: random weights from the client's own stream, on the public backbones.

        Multimodal clients share parameters: they start from one stream, and from no public data.
        """
        from fedloom.models.clients.build import build_client_model
        from fedloom.seeding import global_torch_stream

        multimodal = self.task == ClientTask.MULTIMODAL_CLASSIFICATION
        with global_torch_stream(self.seed, self.task if multimodal else self.name, "weights"):
            model = build_client_model(
                self.settings,
                classes=len(self.class_names),
                image_size=self.image_size,
                tokenizer=self.words,
                streams=self.modalities,
            )
        start_from(model, self.backbones)
        return model

    def context(self, private: Any = None, test: Any = None, **training: Any) -> ClientContext:
        """Where the client half works: the model, its samples (None: no samples), what else `ClientContext` takes."""
        return context_class(self.task, "privacy" in training)(
            name=self.name,
            modality=self.task,
            model=self.model(),
            tokenizer=self.words,
            private=self._nothing() if private is None else private,
            test=self._nothing() if test is None else test,
            seed=self.seed,
            **training,
        )

    def client(
        self,
        method: str,
        settings: Mapping[str, Any],
        warm: Callable[[ClientContext], None],
        private: Any,
        test: Any,
        **training: Any,
    ) -> Any:
        """The client half of `method` with its settings; `warm` trains the model before the method touches it."""
        client = new_client(method, settings, warm, self.context(private, test, **training))
        context: Any = proxy(client.context)  # no circle: a client that is let go of leaves memory at once
        client.context.export = lambda folder: self.write(context.model, folder)
        return client

    def write(self, model: Any, folder: Path) -> None:
        """Write the model as a folder of its library, with its tokenizer and image processor, and seal it."""
        words = self.words if self.task != ClientTask.IMAGE_CLASSIFICATION else None
        side = self.image_size if Modality.IMAGE in reads(self.task, self.modalities) else 0
        write_model(model, self.class_names, words, side, folder)
        seal_export(folder)

    def _nothing(self) -> Any:
        """No samples of the task."""
        none, side = np.zeros(0, dtype=np.int64), self.image_size
        if self.task == ClientTask.MULTIMODAL_CLASSIFICATION:
            blanks: dict[Modality, Any] = {
                Modality.AUDIO: np.zeros((0, 1, 1), dtype=np.float32),
                Modality.IMAGE: np.zeros((0, 1, side, side, 3), dtype=np.uint8),
                Modality.TEXT: (),
            }
            return MultimodalSamples({modality: blanks[modality] for modality in self.modalities}, none)
        if self.task == ClientTask.IMAGE_CLASSIFICATION:
            return ImageSet(np.zeros((0, side, side, 3), dtype=np.uint8), none)
        return TextSet((), none)


def new_client(
    method: str, settings: Mapping[str, Any], warm: Callable[[ClientContext], None], context: ClientContext
) -> Any:
    """The client half of `method`; `warm` trains the context's model before the method touches it."""
    from fedloom.methods.base import load_method

    kind, _ = load_method(method)
    own = validate(kind.settings, settings, "settings")
    warm(context)
    context.attach(lambda model: kind.wrap_model(model, own))
    return kind.client(context, own)


def context_class(task: ClientTask, private: bool = False) -> type[ClientContext]:
    """What clients of that task work in; private: those whose samples are used under a budget.

    Raises:
        BadInput: there is no such for the task.
    """
    if private:
        from fedloom.methods.private_context import PrivateClientContext

        if task not in SINGLE_MODALITY:
            raise BadInput(f"clients.privacy: there are no private steps for clients.{task}; allowed: image, text")
        return PrivateClientContext
    if task == ClientTask.RETRIEVAL:
        from fedloom.methods.retrieval_context import RetrievalContext

        return RetrievalContext
    if task == ClientTask.MULTIMODAL_CLASSIFICATION:
        from fedloom.methods.multimodal_context import MultimodalContext

        return MultimodalContext
    from fedloom.methods.context import ClientContext

    return ClientContext


def backbones_of(settings: ModelSettings, assets: Assets) -> list[str]:
    """The folder that each tower starts from, "" for one with weights of its own; none without any."""
    names = ["" if tower.pretrained else backbone_name(tower) for tower in settings.towers()]
    found = [str(assets.backbones[name]) if name in assets.backbones else "" for name in names]
    return found if any(found) else []


def start_from(model: Any, backbones: Sequence[str | Path]) -> None:
    """Put the public backbones in these folders under the model's towers, in their order: all but the head.

    A tower whose folder is "" is left as it is. BadInput where one does not fit.
    """
    import torch
    from safetensors import SafetensorError

    from fedloom.models.clients.adapters import plain_names
    from fedloom.models.clients.client_model import towers

    for tower, folder in zip(towers(model), backbones):
        if not folder:
            continue
        try:
            body = load_file(Path(folder) / "backbone.safetensors")
            known = plain_names(tower)
            tower.load_state_dict({known.get(k, k): torch.from_numpy(v) for k, v in body.items()}, strict=False)
        except (SafetensorError, RuntimeError, OSError) as error:
            why, arch = str(error).strip().splitlines()[0], getattr(tower, "arch", "model")
            raise BadInput(f"{folder}: does not fit a {arch} of these sizes: {why}") from None


def write_model(model: Any, class_names: Sequence[str], tokenizer: Any | None, size: int, folder: Path) -> None:
    """Write a client model into `folder`, with its tokenizer and image processor; of two towers, each beside its own.

    tokenizer: None where it reads no texts; size: side of pictures in pixels, 0 where it sees none.
    """
    from fedloom.models.clients.client_model import towers
    from fedloom.models.clients.preprocessing import ImagePreprocessor

    both = len(towers(model)) > 1
    model.eval().export(folder, tuple(class_names))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder / "text" if both else folder)
    if size:
        own = (getattr(tower, "preprocessor", None) for tower in towers(model))
        eye = next((preprocessor for preprocessor in own if preprocessor), ImagePreprocessor(size, size))
        _picture_processor(eye).save_pretrained(folder / "image" if both else folder)


def _picture_processor(preprocessor: ImagePreprocessor) -> Any:
    """Pictures as the client's model was shown them."""
    from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

    facts = preprocessor.processor()
    kind = {"ViTImageProcessor": ViTImageProcessorPil, "CLIPImageProcessor": CLIPImageProcessorPil}
    return kind[facts.pop("image_processor_type")](**facts)


_TRUNKS: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_SHARED: dict[tuple[str, str], Any] = {}
LATEST = 8  # sets of shared samples whose features a process keeps


def _features_key(model: Any, inputs: Mapping[str, Any]) -> tuple[str, str]:
    """What frozen features depend on: the trunk, which is hashed once, and the samples."""
    if model not in _TRUNKS:
        _TRUNKS[model] = model.features_key
    samples = fingerprint(*(part for k, v in sorted(inputs.items()) for part in ([k], v.numpy())))
    return _TRUNKS[model], samples


def features_shared(model: Any, inputs: Mapping[str, Any]) -> Any:
    """The frozen features (N, F) of N samples that several clients get: a process's clients on one trunk look once."""
    key = _features_key(model, inputs)
    if key not in _SHARED:
        _SHARED[key] = model.frozen_features(**inputs)
        while len(_SHARED) > LATEST:
            del _SHARED[next(iter(_SHARED))]
    return _SHARED[key].clone()


def features_once(model: Any, inputs: Mapping[str, Any]) -> Any:
    """The frozen features (N, F) of N samples as the model takes them, computed once for all runs."""
    import torch

    trunk, samples = _features_key(model, inputs)
    key = {
        "trunk": trunk,
        "samples": samples,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    } | ({"texts": "each to its own length"} if "attention_mask" in inputs else {})

    def build(folder: Path) -> None:
        np.save(folder / "features.npy", model.frozen_features(**inputs).numpy(), allow_pickle=False)

    return torch.from_numpy(np.load(cached("features", key, build) / "features.npy", allow_pickle=False))


def reads(task: ClientTask, modalities: Sequence[Modality]) -> tuple[Modality, ...]:
    """The modalities that a client of that task reads; modalities: those of the data set's multimodal samples."""
    return ClientTask(task).spec.reads or tuple(modalities)


def picture_side(data: FederatedDataset) -> int:
    """Side in pixels of the data set's images, 0 where it has none."""
    for samples in (*data.train.values(), *data.test.values(), data.public):
        images = getattr(samples, "images", None)
        if isinstance(samples, MultimodalSamples):
            images = samples.parts.get(Modality.IMAGE)
        if isinstance(images, np.ndarray) and len(images):
            return int(images.shape[-2])
    return 0
