"""Client models from their settings: tiny and random, or around pretrained weights, one tower or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fedloom.config.archs import PAIR, is_dual, spec_of
from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.adapters import train_only
from fedloom.models.clients.batch_norms import also_of_one
from fedloom.models.clients.client_model import ClientModel, FrozenClientModel
from fedloom.models.clients.preprocessing import ImagePreprocessor, read_preprocessor, side_of
from fedloom.models.clients.spec import ClientModelSpec, DataShape
from fedloom.models.clients.text import tokenize
from fedloom.models.pretrained import load_pretrained, pretrained_config
from fedloom.registry import CLIENT_MODELS
from fedloom.tasks import Modality
from fedloom.weights import hub_arguments, placed

BLANK_PIXEL = 0.0  # grey: the middle of [-1, 1]
BackboneOf = Callable[[ModelSettings, DataShape], Any]


def build_client_model(
    settings: ModelSettings,
    *,
    classes: int,
    image_size: int = 32,
    tokenizer: Any = None,
    streams: Sequence[Modality] = (),
    published: BackboneOf | None = None,
) -> nn.Module:
    """A client model from its settings: tiny and random, or with pretrained weights. Draws from torch's global stream.

    Args:
        classes: C (a dual encoder has none).
        image_size: side of images in pixels.
        tokenizer: of a model that reads texts.
        streams: the two modalities of multimodal samples; then the towers are two streams, not a dual encoder.
        published: gives the backbone of a tower with weights of a library in place of loading it: to plan.
    """
    dual = not streams and is_dual(settings.arch)
    data = DataShape(1 if dual or streams else classes, image_size, tokenizer)
    unit = settings.unit and not dual and not streams
    kind = FrozenClientModel if settings.tune == "head" else ClientModel
    built = [_tower(s, data, unit, kind, published) for s in settings.towers()]
    if streams:
        from fedloom.models.clients.multimodal import MultimodalClassifier

        return MultimodalClassifier(built, (streams[0], streams[1]), classes, settings.fusion)
    model = built[0]
    if dual:
        from fedloom.models.clients.dual_encoder import DualEncoder

        return DualEncoder(built[0], built[1])
    if settings.arch == PAIR:
        from fedloom.models.clients.shared_head import SharedHeadModel

        side = side_of(built[0].backbone.config, image_size)
        blank = {"pixel_values": torch.full((1, 3, side, side), BLANK_PIXEL)}
        model = SharedHeadModel(built[0], built[1], (blank, tokenize(tokenizer, [""])), classes)
    return train_only(model, settings)


def _tower(s: ModelSettings, data: DataShape, unit: bool, kind: type[ClientModel], published: BackboneOf | None) -> Any:
    spec = spec_of(s.arch)
    outside = s.arch not in CLIENT_MODELS.builtin()
    if spec.client_model is not None:
        whole = spec.client_model(s, data, unit)
        if outside and not all(callable(getattr(whole, name, None)) for name in ("encode", "classify", "export")):
            raise BadInput(f"client model {spec.name}: it is {whole!r:.80}, expected encode, classify and export")
        return whole
    preprocessor = None
    if published is not None and s.pretrained and not spec.local:
        backbone = published(s, data)
    else:
        backbone = _backbone(s, data)
        preprocessor = _preprocessor(spec, s, backbone, data.image_size)
    model = also_of_one(kind(backbone, s.arch, data.classes, s.width, unit=unit, preprocessor=preprocessor))
    if s.pretrained and published is None and isinstance(model, FrozenClientModel):
        model.given = model.backbone_digest()
    countable = published is None or not (s.pretrained or spec.flops)  # a plan's stand-in need not run
    if outside and countable and (batch := _tiny_batch(spec, data)):
        model.check_backbone(**batch)
    return model


def _tiny_batch(spec: ClientModelSpec, data: DataShape) -> dict[str, torch.Tensor]:
    """Two samples as the model will be shown them, {} where what they look like is not known here."""
    if spec.modality == Modality.IMAGE and data.image_size:
        return {"pixel_values": torch.full((2, 3, data.image_size, data.image_size), BLANK_PIXEL)}
    if spec.modality == Modality.TEXT and data.tokenizer is not None:
        return tokenize(data.tokenizer, ["a text", "another"])
    return {}  # spectrograms are as the data set makes them


def _backbone(s: ModelSettings, data: DataShape) -> Any:
    import transformers as hf

    spec = spec_of(s.arch)
    if spec.patched and not s.pretrained and data.image_size % s.patch:
        raise BadInput(f"{s.arch}: patch {s.patch} does not divide the picture's side {data.image_size}")
    if spec.backbone is not None:
        return spec.backbone(s, data)
    classifier = getattr(hf, f"{spec.network}For{spec.task}")
    if s.pretrained:
        return pretrained_backbone(spec, classifier, s.pretrained, data.classes)
    if spec.modality == Modality.TEXT and data.tokenizer is None:
        raise BadInput(f"{s.arch} needs a tokenizer, or `pretrained` weights that bring their own")
    assert spec.sizes is not None  # the specification of a model of transformers
    return classifier(getattr(hf, f"{spec.network}Config")(**spec.sizes(s, data), num_labels=data.classes))


def pretrained_backbone(spec: ClientModelSpec, classifier: Any, source: str, classes: int) -> Any:
    """The classifier in a folder or of a hub name, its last layer new where it had other classes.

    Raises:
        BadInput: it cannot be loaded, or is another architecture.
    """
    what = f"{spec.name}: pretrained ="
    config = pretrained_config(what, source)
    if config.model_type != (spec.model_type or spec.name):
        raise BadInput(f"{source} holds a {config.model_type}, not a {spec.name}")
    return load_pretrained(what, source, classifier, num_labels=classes, ignore_mismatched_sizes=True)


def _preprocessor(spec: ClientModelSpec, s: ModelSettings, backbone: Any, side: int) -> ImagePreprocessor | None:
    """How pretrained weights read images."""
    if not s.pretrained or spec.modality != Modality.IMAGE:
        return None
    own = side_of(getattr(backbone, "config", None), side)
    found = read_preprocessor(placed(s.pretrained), own, **hub_arguments(s.pretrained))
    return replace(found, side=s.side, resized=s.side) if spec.sided else found
