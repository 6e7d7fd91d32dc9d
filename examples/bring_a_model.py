"""A client model of your own in one file: a small convolutional network. python bring_a_model.py

`fedloom run --set 'clients.image=[{arch: "bring_a_model.py:SMALL_CNN", hidden: 16, count: 2}]'` uses it too.
"""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor, nn

import fedloom
from fedloom.config.models import ModelSettings
from fedloom.models.clients.spec import ClientModelSpec, DataShape
from fedloom.tasks import Modality


class SmallCNN(nn.Module):
    """Two convolutions and a linear classifier, whose input is the representation before the projection."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.classifier = nn.Linear(2 * channels, classes)

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        """pixel_values (B, 3, H, W) in [-1, 1]; the output has logits (B, C)."""
        return SimpleNamespace(logits=self.classifier(self.features(pixel_values)))


def build(settings: ModelSettings, data: DataShape) -> SmallCNN:
    """The network for settings of `clients.image` and C classes."""
    return SmallCNN(settings.hidden, data.classes)


SMALL_CNN = ClientModelSpec(
    name="small-cnn", modality=Modality.IMAGE, backbone=build, head="classifier", tune=("all", "head")
)

if __name__ == "__main__":
    images = [
        {"arch": SMALL_CNN, "count": 2, "hidden": 8, "width": 16},
        {"arch": "vit", "hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": 16},
    ]
    plan = {"base": {"preset": "smoke"}}
    print(fedloom.compare(["fedmd", "standalone"], plan=plan, clients={"image": images}, jobs=2, out="runs/own-model"))
