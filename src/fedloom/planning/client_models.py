"""A client model without memory for its weights, whether its sizes are settings or those of published weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.config.archs import spec_of
from fedloom.config.models import ModelSettings
from fedloom.data.sizes import DataSizes
from fedloom.errors import BadInput
from fedloom.planning.load import Load, measured
from fedloom.tasks import Modality
from fedloom.weights.catalogue import Shape
from fedloom.weights.shapes import shape_of

_SIDE = 224  # pixels, of pretrained weights that name no side


class StandInTokenizer:
    """Stands in for a tokenizer that is not learned yet: as many entries, and as long rows, as it may have."""

    def __init__(self, vocabulary: int, length: int) -> None:
        self.vocabulary, self.model_max_length = vocabulary, length
        self.pad_token_id, self.unk_token_id, self.bos_token_id = 0, 1, 2
        self.eos_token_id = self.sep_token_id = 3

    def __len__(self) -> int:
        return self.vocabulary

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, Tensor]:
        ids = torch.zeros(len(texts), self.model_max_length, dtype=torch.int64)
        return {"input_ids": ids, "attention_mask": ids}


def from_shape(shape: Shape, modality: str, classes: int) -> Any:
    """The transformers model of that shape, on torch's meta device.

    modality: "image" or "text" for a classifier of `classes`, "" for the whole model.
    """
    import transformers as hf

    from fedloom.models.pretrained import know_own_classes

    know_own_classes()
    known = {k: v for k, v in shape.config.items() if k not in ("model_type", "id2label", "label2id", "architectures")}
    config = hf.AutoConfig.for_model(shape.kind, **known, **({"num_labels": classes} if modality else {}))
    classifiers: dict[str, Any] = {
        Modality.IMAGE: hf.AutoModelForImageClassification,
        Modality.TEXT: hf.AutoModelForSequenceClassification,
    }
    auto = classifiers.get(modality, hf.AutoModel)
    with torch.device("meta"):
        return hf.BlipForConditionalGeneration(config) if shape.kind == "blip" else auto.from_config(config)


def model_on_meta(
    settings: ModelSettings, scene: DataSizes, tokenizer: StandInTokenizer, key: str, joint: bool = False
) -> nn.Module:
    """The client model as `build_client_model` makes it, but for its weights.

    Args:
        key: where it stands in the configuration, for messages.
        joint: whether its towers are two streams of multimodal samples.

    Raises:
        BadInput: weights that are neither here nor known, or of another architecture.
    """
    from fedloom.models.clients.build import build_client_model
    from fedloom.models.clients.spec import ANY_TYPE, DataShape

    def backbone(tower: ModelSettings, data: DataShape) -> Any:
        spec, shape = spec_of(tower.arch), shape_of(str(tower.pretrained), key)
        modality = Modality.TEXT if spec.modality == Modality.TEXT else Modality.IMAGE
        if spec.model_type != ANY_TYPE and shape.kind != (spec.model_type or spec.name):
            raise BadInput(f"{key}: {tower.pretrained} holds a {shape.kind}, not a {tower.arch}")
        return from_shape(shape, modality, data.classes)

    with torch.device("meta"):
        return build_client_model(
            settings,
            classes=scene.classes,
            image_size=scene.side,
            tokenizer=tokenizer,
            streams=settings.kinds() if joint else (),
            published=backbone,
        )


def model_load(model: nn.Module, settings: ModelSettings, scene: DataSizes, tokenizer: StandInTokenizer) -> Load:
    """What a sample costs a client model: each tower one image, spectrogram or text (of a clip all frames)."""
    from fedloom.models.clients.client_model import towers

    whole = Load()
    for tower, own in zip(towers(model), settings.towers()):
        times = scene.frames if Modality.IMAGE in own.kinds() and len(settings.kinds()) == 2 else 1
        whole = whole.plus(_tower_load(tower, own, scene, tokenizer), times)
    return whole


def _tower_load(tower: Any, settings: ModelSettings, scene: DataSizes, tokenizer: StandInTokenizer) -> Load:
    from fedloom.models.clients.preprocessing import side_of

    spec, place = spec_of(settings.arch), torch.device("meta")
    if spec.flops is not None:
        work, kept = spec.flops(tower.backbone, tokenizer.model_max_length)
        return Load(work, 3 * work, kept)
    if spec.modality == Modality.TEXT:
        shape: tuple[int, ...] = (tokenizer.model_max_length,)
        return measured(
            tower, lambda n: tower.encode(input_ids=torch.zeros(n, *shape, dtype=torch.int64, device=place))
        )
    if spec.frozen:  # its trunk is read from its file, and sees an image once, or at each step where it is augmented
        place = next(tower.trunk.buffers()).device
        shape = (3, settings.side, settings.side)
    elif spec.modality == Modality.AUDIO:
        shape = (1, *scene.spectrogram)
    else:
        config = getattr(tower.backbone, "config", None)
        side = settings.side if spec.sided else side_of(config, _SIDE if settings.pretrained else scene.side)
        shape = (getattr(config, "num_channels", 3), side, side)
    return measured(tower, lambda n: tower.encode(pixel_values=torch.zeros(n, *shape, device=place)))
