"""A client's model without memory for its weights, whether its sizes are settings or those of published weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.config.models import DUAL_ARCHS, JOINT_ARCHS, ModelSettings
from fedloom.data.tasks import ClientTask, Modality
from fedloom.errors import BadInput
from fedloom.planning.load import Load, measured
from fedloom.planning.scene import SceneSizes
from fedloom.weights.catalogue import Shape
from fedloom.weights.shapes import shape_of

_PICTURES = ("vit", "beit", "resnet", "audio-resnet")
_OWN = ("gru", "frozen-mobilenet")  # their file alone says how large they are: it is read


class Words:
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


def from_shape(shape: Shape, task: str, classes: int) -> Any:
    """The transformers model of that shape, on torch's meta device; task: "image", "text" or "" for the whole model."""
    import transformers as hf

    import fedloom.models.clients.gru  # noqa: F401  makes its class known

    config = {k: v for k, v in shape.config.items() if k not in ("model_type", "id2label", "label2id")}
    labels = {} if not task else {"num_labels": classes}
    own = hf.AutoConfig.for_model(shape.kind, **{**config, **labels})
    with torch.device("meta"):
        if task == ClientTask.IMAGE_CLASSIFICATION:
            return hf.AutoModelForImageClassification.from_config(own)
        if task == ClientTask.TEXT_CLASSIFICATION:
            return hf.AutoModelForSequenceClassification.from_config(own)
        return hf.BlipForConditionalGeneration(own) if shape.kind == "blip" else hf.AutoModel.from_config(own)


def learner_on_meta(
    settings: ModelSettings, scene: SceneSizes, words: Words, key: str, joint: bool = False
) -> nn.Module:
    """The learner as `build_client_model` makes it, but for its weights.

    Args:
        key: where it stands in the configuration, for messages.
        joint: whether its towers are two streams of joint samples.

    Raises:
        BadInput: weights that are neither here nor known, or of another architecture.
    """
    from fedloom.models.clients.adapters import train_only
    from fedloom.models.clients.build import BLANK_PIXEL, build_client_model

    if not any(t.pretrained and t.arch not in _OWN for t in settings.towers()):
        kinds: Any = settings.kinds() if joint else ()
        with torch.device("meta"):
            return build_client_model(
                settings, classes=scene.classes, image_size=scene.side, tokenizer=words, streams=kinds
            )
    unit = settings.unit and settings.arch not in DUAL_ARCHS
    towers = [_tower(t, scene, words, key, unit) for t in settings.towers()]
    learner: nn.Module = towers[0]
    with torch.device("meta"):
        if joint and settings.arch in JOINT_ARCHS:
            from fedloom.models.clients.multimodal import MultimodalClassifier

            streams: Any = settings.kinds()
            return MultimodalClassifier(towers, streams, scene.classes, settings.fusion)
        if settings.arch in DUAL_ARCHS:
            from fedloom.models.clients.dual_encoder import DualEncoder

            learner = DualEncoder(towers[0], towers[1])
        elif settings.arch == "pair":
            from fedloom.models.clients.shared_head import SharedHeadModel

            blank = {"pixel_values": torch.full((1, 3, scene.side, scene.side), BLANK_PIXEL)}
            learner = SharedHeadModel(towers[0], towers[1], (blank, words([""])), scene.classes)
        return train_only(learner, settings)


def _tower(settings: ModelSettings, scene: SceneSizes, words: Words, key: str, unit: bool) -> Any:
    from fedloom.models.clients.build import build_client_model
    from fedloom.models.clients.client_model import ClientModel

    if not settings.pretrained or settings.arch in _OWN:
        with torch.device("meta"):
            return build_client_model(settings, classes=scene.classes, image_size=scene.side, tokenizer=words)
    shape = shape_of(settings.pretrained, key)
    wanted = {"audio-resnet": "resnet"}.get(settings.arch, settings.arch)
    if shape.kind != wanted:
        raise BadInput(f"{key}: {settings.pretrained} holds a {shape.kind}, not a {settings.arch}")
    task = ClientTask.IMAGE_CLASSIFICATION if settings.arch in _PICTURES else ClientTask.TEXT_CLASSIFICATION
    backbone = from_shape(shape, task, scene.classes)
    with torch.device("meta"):
        return ClientModel(backbone, settings.arch, scene.classes, settings.width, unit=unit)


def learner_load(learner: nn.Module, settings: ModelSettings, scene: SceneSizes, words: Words) -> Load:
    """What a sample costs a learner: each of its towers one picture, spectrogram or text (a joint one, all frames)."""
    from fedloom.models.clients.client_model import towers

    whole = Load()
    for tower, own in zip(towers(learner), settings.towers()):
        times = scene.frames if Modality.IMAGE in own.kinds() and len(settings.kinds()) == 2 else 1
        whole = whole.plus(_tower_load(tower, own, scene, words), times)
    return whole


def _tower_load(tower: Any, settings: ModelSettings, scene: SceneSizes, words: Words) -> Load:
    if settings.arch == "gru":  # packed rows have no shape on the meta device: two products a weight and token
        work = sum(2.0 * p.numel() * words.model_max_length for p in tower.backbone.gru.parameters())
        width = tower.backbone.config.hidden_size
        return Load(work, 3 * work, 32.0 * words.model_max_length * width)
    if settings.arch == "frozen-mobilenet":  # its trunk sees a picture once, or at each step where it is augmented
        place = next(tower.trunk.buffers()).device
        shape: tuple[int, ...] = (3, settings.side, settings.side)
        return measured(tower, lambda n: tower.encode(pixel_values=torch.zeros(n, *shape, device=place)))
    if settings.arch in _PICTURES:
        config = tower.backbone.config
        side = getattr(config, "image_size", None) or (224 if settings.pretrained else scene.side)
        shape = (1, *scene.spectrogram) if settings.arch == "audio-resnet" else (config.num_channels, side, side)
        return measured(tower, lambda n: tower.encode(pixel_values=torch.zeros(n, *shape, device="meta")))
    length = words.model_max_length
    return measured(tower, lambda n: tower.encode(input_ids=torch.zeros(n, length, dtype=torch.int64, device="meta")))
