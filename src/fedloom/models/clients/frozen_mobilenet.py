"""A small network that is trained on the features of a frozen MobileNet; see `mobilenet` for its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.models.clients.spec import ClientModelSpec, DataShape
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings


def _build(s: ModelSettings, data: DataShape, unit: bool) -> Any:
    from fedloom.models.clients.mobilenet import FeatureClientModel, load_mobilenet

    assert s.pretrained is not None  # ModelSettings demands it
    return FeatureClientModel(load_mobilenet(s.pretrained), data.classes, s.width, s.side, unit=unit)


SPEC = ClientModelSpec(
    name="frozen-mobilenet",
    modality=Modality.IMAGE,
    client_model=_build,
    tune=("all",),
    frozen=True,
    needs="the path of its arrays, NAME.npz with NAME.json beside it",
    local=True,
    library="torch.nn.Linear on features of a frozen MobileNet",
    weights="needs pretrained: path of MobileNet NAME.npz (+ NAME.json)",
)
