"""Convolutional networks in stages: ResNet of images, the same of spectrograms, and ConvNeXt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.errors import BadInput
from fedloom.models.clients.spec import NO_ATTENTION, ClientModelSpec, DataShape, check_stages, stage_widths
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings

STEM = 4  # ConvNeXt's first convolution takes away three of four pixels each way, each further stage one of two


def _sizes(s: ModelSettings, data: DataShape, channels: int = 3) -> dict[str, Any]:
    widths = stage_widths(s)
    depths = list(s.stages)
    return {
        "num_channels": channels,
        "embedding_size": widths[0],
        "hidden_sizes": widths,
        "depths": depths,
        "layer_type": "basic",
    }


def _audio_sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    return _sizes(s, data, channels=1)


def _convnext_sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    smallest = STEM * 2 ** (len(s.stages) - 1)
    if data.image_size < smallest:
        raise BadInput(
            f"convnext: {len(s.stages)} stages need images of {smallest} pixels or more, not {data.image_size}"
        )
    sizes = {"num_stages": len(s.stages), "hidden_sizes": stage_widths(s), "depths": list(s.stages)}
    return {**sizes, "patch_size": STEM, "image_size": data.image_size}


def _widths(config: Any) -> list[int]:
    return list(config.hidden_sizes)


_COMMON: dict[str, Any] = {"check": check_stages, "tune": NO_ATTENTION, "block_widths": _widths}
_RESNET = {"network": "ResNet", "head": "classifier.1", "model_type": "resnet", **_COMMON}
RESNET = ClientModelSpec(name="resnet", modality=Modality.IMAGE, sizes=_sizes, **_RESNET)
AUDIO_RESNET = ClientModelSpec(
    name="audio-resnet",
    modality=Modality.AUDIO,
    sizes=_audio_sizes,
    library="transformers.ResNetForImageClassification, of one channel",
    **_RESNET,
)
CONVNEXT = ClientModelSpec(
    name="convnext", modality=Modality.IMAGE, network="ConvNext", sizes=_convnext_sizes, **_COMMON
)
