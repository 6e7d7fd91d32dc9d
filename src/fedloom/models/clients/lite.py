"""EfficientNet-lite: small published networks for images; the network itself is in `efficientnet_lite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.models.clients.spec import ClientModelSpec, DataShape
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings


def _backbone(s: ModelSettings, data: DataShape) -> Any:
    """That of a folder, or lite0 with random weights."""
    from fedloom.models.clients.build import pretrained_backbone
    from fedloom.models.clients.efficientnet_lite import (
        EfficientNetLiteConfig,
        EfficientNetLiteForImageClassification,
    )

    if s.pretrained:
        return pretrained_backbone(SPEC, EfficientNetLiteForImageClassification, s.pretrained, data.classes)
    return EfficientNetLiteForImageClassification(EfficientNetLiteConfig(num_labels=data.classes))


SPEC = ClientModelSpec(
    name="efficientnet-lite",
    modality=Modality.IMAGE,
    backbone=_backbone,
    tune=("all", "head"),
    sided=True,
    library="fedloom.models.clients.efficientnet_lite.EfficientNetLiteForImageClassification",
    weights="lite0 at random, or pretrained: folder or `efficientnet/lite0`",
)
