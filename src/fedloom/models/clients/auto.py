"""Any pretrained image or text model that transformers' Auto classes load.

A classifier is cut before its last linear layer; a model without a classifier, or one of sentence-transformers, is
pooled (`pooled.Pooled`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.errors import BadInput
from fedloom.models.clients.spec import ANY_TYPE, ClientModelSpec, DataShape
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings


def auto_class(spec: ClientModelSpec, config: Any) -> Any:
    """The Auto class that makes a classifier of a configuration, else AutoModel. BadInput where neither knows it."""
    import transformers as hf

    for auto in (getattr(hf, f"AutoModelFor{spec.task}"), hf.AutoModel):
        if type(config) in auto._model_mapping:
            return auto
    raise BadInput(f"holds a {config.model_type}, which AutoModel does not load")


def find_head(backbone: Any) -> str:
    """The one linear layer after the base model whose outputs are the classes, by name. BadInput: not exactly one."""
    from torch import nn

    base = getattr(backbone, "base_model", backbone)
    inside = set(base.modules()) if base is not backbone else set()
    classes = backbone.config.num_labels
    found: list[str] = [
        name
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == classes and layer not in inside
    ]
    if len(found) != 1:
        raise BadInput(f"{type(backbone).__name__} ends in {len(found)} linear layers of {classes} classes, expected 1")
    return found[0]


def _image(settings: ModelSettings, data: DataShape) -> Any:
    import torch

    from fedloom.models.clients.preprocessing import side_of

    def blank(config: Any) -> dict[str, Any]:
        side = side_of(config, data.image_size)
        return {"pixel_values": torch.zeros(1, 3, side, side)}

    return _load(IMAGE, settings.pretrained or "", data, blank)


def _text(settings: ModelSettings, data: DataShape) -> Any:
    import torch

    from fedloom.models.clients.text import tokenize

    def blank(config: Any) -> dict[str, Any]:
        ones = torch.ones(1, 4, dtype=torch.int64)
        return tokenize(data.tokenizer, ["a"]) if data.tokenizer else {"input_ids": ones, "attention_mask": ones}

    return _load(TEXT, settings.pretrained or "", data, blank)


def _load(spec: ClientModelSpec, source: str, data: DataShape, blank: Any) -> Any:
    """The classifier in a folder, tried on one blank sample. BadInput says what it cannot be."""
    import torch
    from transformers import AutoModel

    from fedloom.models.clients.pooled import Pooled, pools_by_mean
    from fedloom.models.pretrained import load_pretrained, pretrained_config
    from fedloom.weights import placed

    what = f"{spec.name}: pretrained ="
    config = pretrained_config(what, source)
    try:
        auto, mean = auto_class(spec, config), pools_by_mean(placed(source))
        if mean or auto is AutoModel:
            backbone: Any = Pooled(load_pretrained(what, source, AutoModel), data.classes, mean)
        else:
            backbone = load_pretrained(what, source, auto, num_labels=data.classes, ignore_mismatched_sizes=True)
        find_head(backbone)
        with torch.no_grad():
            shape = tuple(backbone.eval()(**blank(config)).logits.shape)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{what} {source}: a {config.model_type} reads no {spec.modality}s: {why}") from error
    except BadInput as error:
        raise BadInput(str(error) if str(error).startswith(what) else f"{what} {source}: {error}") from None
    if shape != (1, data.classes):
        raise BadInput(f"{what} {source}: gives logits {shape} of one {spec.modality}, expected {(1, data.classes)}")
    return backbone


_COMMON: dict[str, Any] = {
    "head": find_head,
    "model_type": ANY_TYPE,
    "needs": "a folder or hub name",
    "weights": "needs pretrained: folder or hub name",
}
IMAGE = ClientModelSpec(
    name="auto-image",
    modality=Modality.IMAGE,
    backbone=_image,
    library="transformers.AutoModelForImageClassification, or AutoModel",
    **_COMMON,
)
TEXT = ClientModelSpec(
    name="auto-text",
    modality=Modality.TEXT,
    backbone=_text,
    library="transformers.AutoModelForSequenceClassification, or AutoModel",
    **_COMMON,
)
