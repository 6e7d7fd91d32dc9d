"""What drawn pictures show besides their class: for metrics that need "attributes"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloom.config.models import JudgeSettings
from fedloom.data.containers import FederatedDataset
from fedloom.metrics.base import ShownAttribute, shares
from fedloom.models.evaluators.attribute_judge import held_out, load_attribute_judge


class AttributeScores:
    """The attributes of a data set's reference pictures, and a network that sees them.

    accuracy: how often it sees each right in reference pictures that it was not trained on, None of fewer than five.
    """

    def __init__(self, settings: JudgeSettings, scene: FederatedDataset, folder: Path) -> None:
        assert scene.reference is not None
        self._attributes = scene.attributes
        self._judge = load_attribute_judge(settings, scene.attributes, folder)
        self._real = {
            name: shares(a.labels, scene.reference.labels, (scene.classes, len(a.values)))
            for name, a in scene.attributes.items()
        }
        _, rest = held_out(len(scene.reference))
        seen = self._judge.see(scene.reference.images[rest])
        self.accuracy = {
            name: float((seen[name] == a.labels[rest]).mean()) if len(rest) else None
            for name, a in scene.attributes.items()
        }

    def shown(self, images: NDArray[np.uint8]) -> dict[str, ShownAttribute]:
        """Of generated pictures (N, H, W, 3)."""
        seen = self._judge.see(images)
        return {name: ShownAttribute(a.values, self._real[name], seen[name]) for name, a in self._attributes.items()}
