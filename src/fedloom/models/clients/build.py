"""Learners from their settings: tiny and random, or around pretrained weights, one tower or two."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fedloom.config.models import DUAL_ARCHS, ModelSettings
from fedloom.data.tasks import Modality
from fedloom.errors import BadInput
from fedloom.models.clients.adapters import train_only
from fedloom.models.clients.batch_norms import also_of_one
from fedloom.models.clients.client_model import ClientModel, FrozenClientModel
from fedloom.models.clients.preprocessing import ImagePreprocessor, read_optics
from fedloom.models.clients.text import tokenize
from fedloom.models.pretrained import load_given
from fedloom.weights import hub_arguments, placed

BLANK_PIXEL = 0.0  # grey: the middle of [-1, 1]
TEXT_LENGTH_MARGIN = 2  # RoBERTa counts positions from padding_idx + 1


def build_client_model(
    settings: ModelSettings,
    *,
    classes: int,
    image_size: int = 32,
    tokenizer: Any = None,
    streams: tuple[Modality, ...] = (),
) -> nn.Module:
    """A learner from its settings: tiny and random, or around pretrained weights. Draws from torch's global stream.

    Args:
        classes: C (a dual encoder has none).
        image_size: side of pictures in pixels.
        tokenizer: of whatever reads texts.
        streams: the two kinds of joint samples; then the towers are two streams, not a dual encoder.
    """
    if streams:
        from fedloom.models.clients.multimodal import MultimodalClassifier

        both = [_tower(s, 1, image_size, tokenizer) for s in settings.towers()]
        return MultimodalClassifier(both, (streams[0], streams[1]), classes, settings.fusion)
    dual = settings.arch in DUAL_ARCHS
    kind = FrozenClientModel if settings.tune == "head" else ClientModel
    built = [
        _tower(s, 1 if dual else classes, image_size, tokenizer, settings.unit and not dual, kind)
        for s in settings.towers()
    ]
    learner = built[0]
    if dual:
        from fedloom.models.clients.dual_encoder import DualEncoder

        learner = DualEncoder(built[0], built[1])
    elif settings.arch == "pair":
        from fedloom.models.clients.shared_head import SharedHeadModel

        size = getattr(built[0].backbone.config, "image_size", image_size)
        blank = {"pixel_values": torch.full((1, 3, size, size), BLANK_PIXEL)}
        learner = SharedHeadModel(built[0], built[1], (blank, tokenize(tokenizer, [""])), classes)
    return train_only(learner, settings)


def _tower(
    settings: ModelSettings,
    classes: int,
    image_size: int,
    tokenizer: Any,
    unit: bool = False,
    kind: type[ClientModel] = ClientModel,
) -> Any:
    if settings.arch == "frozen-mobilenet":
        from fedloom.models.clients.mobilenet import FeatureClientModel, load_mobilenet

        assert settings.pretrained is not None  # ModelSettings demands it
        trunk = load_mobilenet(settings.pretrained)
        return FeatureClientModel(trunk, classes, settings.width, settings.side, unit=unit)
    if settings.arch == "gru":
        backbone = _gru(settings, classes, tokenizer)
    elif settings.pretrained:
        backbone = _pretrained(settings, classes)
    elif settings.arch in ("vit", "beit", "resnet", "audio-resnet"):
        backbone = _image_backbone(settings, classes, image_size)
    else:
        backbone = _text_backbone(settings, classes, tokenizer)
    optics = _optics(settings, backbone, image_size)
    return kind(also_of_one(backbone), settings.arch, classes, settings.width, unit=unit, optics=optics)


def _optics(settings: ModelSettings, backbone: Any, image_size: int) -> ImagePreprocessor | None:
    """How given weights want to see pictures."""
    given = settings.pretrained
    if not given or settings.arch not in ("vit", "beit", "resnet"):
        return None
    side = getattr(backbone.config, "image_size", image_size)
    return read_optics(placed(given), side if isinstance(side, int) else side[0], **hub_arguments(given))


def _gru(settings: ModelSettings, classes: int, tokenizer: Any) -> Any:
    from fedloom.models.clients.gru import build_gru  # makes the class known to transformers' Auto classes
    from fedloom.models.clients.vectors import is_vectors

    if settings.pretrained and not is_vectors(settings.pretrained):
        return _pretrained(settings, classes)
    return build_gru(settings, classes, tokenizer)


def _pretrained(settings: ModelSettings, classes: int) -> Any:
    import transformers as hf

    auto = hf.AutoModelForImageClassification
    if settings.arch in ("bert", "distilbert", "roberta", "gru"):
        auto = hf.AutoModelForSequenceClassification
    kind = {"gru": "fedloom-gru", "audio-resnet": "resnet"}.get(settings.arch, settings.arch)
    what, more = f"{settings.arch}: pretrained =", {"num_labels": classes, "ignore_mismatched_sizes": True}
    model = load_given(what, settings.pretrained or "", auto, **more)
    if model.config.model_type != kind:
        raise BadInput(f"{settings.pretrained} holds a {model.config.model_type}, not a {settings.arch}")
    return model


def _image_backbone(s: ModelSettings, classes: int, size: int) -> Any:
    import transformers as hf

    if s.arch in ("resnet", "audio-resnet"):
        widths = [s.hidden // 2**halvings for halvings in reversed(range(len(s.stages)))]
        config = hf.ResNetConfig(
            num_channels=3 if s.arch == "resnet" else 1,
            embedding_size=widths[0],
            hidden_sizes=widths,
            depths=list(s.stages),
            layer_type="basic",
            num_labels=classes,
        )
        return hf.ResNetForImageClassification(config)
    if size % s.patch:
        raise BadInput(f"{s.arch}: patch {s.patch} does not divide the picture's side {size}")
    shape = {
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": 2 * s.hidden,
        "image_size": size,
        "patch_size": s.patch,
        "num_labels": classes,
    }
    if s.arch == "vit":
        return hf.ViTForImageClassification(hf.ViTConfig(**shape))
    config = hf.BeitConfig(**shape, use_absolute_position_embeddings=True, use_mask_token=False, drop_path_rate=0.0)
    return hf.BeitForImageClassification(config)


def _text_backbone(s: ModelSettings, classes: int, tokenizer: Any) -> Any:
    import transformers as hf

    if tokenizer is None:
        raise BadInput(f"{s.arch} needs a tokenizer, or `pretrained` weights that bring their own")
    length, ids = tokenizer.model_max_length, {"pad_token_id": tokenizer.pad_token_id, "num_labels": classes}
    if s.arch == "distilbert":
        config = hf.DistilBertConfig(
            vocab_size=len(tokenizer),
            dim=s.hidden,
            n_layers=s.layers,
            n_heads=s.heads,
            hidden_dim=2 * s.hidden,
            max_position_embeddings=length,
            **ids,
        )
        return hf.DistilBertForSequenceClassification(config)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": 2 * s.hidden,
    }
    if s.arch == "bert":
        return hf.BertForSequenceClassification(hf.BertConfig(**shape, max_position_embeddings=length, **ids))
    config = hf.RobertaConfig(**shape, max_position_embeddings=length + TEXT_LENGTH_MARGIN, type_vocab_size=1, **ids)
    return hf.RobertaForSequenceClassification(config)
