"""A second judge of pictures of dishes, which shares no features with the clients: a linear layer on MobileNet v2.

The judge of `food101_recipes` and its image clients both stand on EfficientNet-lite0, so labels that they correct may
please it more than they are right. Rows of the study `food` have this one's opinion beside. Set FOOD101_RECIPES to the
folder of the data and MOBILENET to that of mobilenet_v2_1.0_224.npz.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fedloom.config import DataSettings
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.experiment.datasets import cached_dataset
from fedloom.metrics.base import Evaluation, Metric
from fedloom.models.clients.mobilenet import FeatureClientModel, load_mobilenet
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import as_stored
from fedloom.runs.cache import cached
from fedloom.seeding import global_torch_stream, numpy_stream
from fedloom.tasks import ClientTask

STEPS, BATCH, RATE = 600, 64, 1e-3  # the judge's


class SecondJudge:
    """MobileNet v2 at 160 pixels, frozen, under a linear layer that learns the real training pictures."""

    def __init__(self, weights: Path, data: DataSettings) -> None:
        trunk = load_mobilenet(weights)
        self.eye = FeatureClientModel(trunk, 2, 8, 160)
        scene = cached_dataset(data)
        real, test = (part[ClientTask.IMAGE_CLASSIFICATION] for part in (scene.train, scene.test))
        assert isinstance(real, ImageSet)
        assert isinstance(test, ImageSet)
        key = {"trunk": self.eye.features_key, "data": scene.digest, "torch": torch.__version__}

        def look(folder: Path) -> None:
            np.savez(folder / "seen.npz", train=self.features(real.images), test=self.features(test.images))

        with np.load(cached("second-judge", key, look) / "seen.npz") as seen:
            x, self.test = torch.from_numpy(seen["train"]), torch.from_numpy(seen["test"])
        y = torch.from_numpy(real.labels)
        with global_torch_stream(0, "second judge"):
            self.head = torch.nn.Linear(x.shape[1], scene.classes)
        fit(
            adamw(self.head.parameters(), RATE),
            index_batches(len(x), BATCH, STEPS, numpy_stream(0, "second judge")),
            lambda i: F.cross_entropy(self.head(x[i]), y[i], label_smoothing=0.05),
            schedule=cosine(STEPS),
            name="second judge",
        )
        right = self.head(self.test).argmax(1).numpy() == test.labels
        self.real_accuracy = float(right.mean())

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, H, W, 3) to (N, F)."""
        return self.eye.frozen_features(as_stored(images)).numpy()

    def see(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The class of each picture, (N,)."""
        with torch.no_grad():
            return self.head(torch.from_numpy(self.features(images))).argmax(1).numpy()  # type: ignore[no-any-return]


@cache
def _judge() -> SecondJudge:
    folders = {name: os.environ.get(name) for name in ("FOOD101_RECIPES", "MOBILENET")}
    if missing := [name for name, value in folders.items() if not value]:
        raise BadInput(f"the second judge needs {' and '.join(missing)} in the environment, allowed: folders")
    data = DataSettings(
        name="food101_recipes", root=str(folders["FOOD101_RECIPES"]), options={"size": 64, "confusion": 0.2}
    )
    return SecondJudge(Path(str(folders["MOBILENET"])) / "mobilenet_v2_1.0_224.npz", data)


def agreement(evaluation: Evaluation) -> float | None:
    """The share of generated pictures in which the second judge sees the class that was asked for."""
    if evaluation.images is None or evaluation.labels is None:
        return None
    return float((_judge().see(evaluation.images) == evaluation.labels).mean())


METRIC = Metric("second_judge", "T2I accuracy, second judge", agreement, needs=frozenset({"generator"}), unit="%")
