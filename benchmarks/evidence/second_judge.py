"""Second judges, which share no features with the clients: a linear layer on MobileNet v2.

The judge and the image clients of `emoji` and `food101_recipes` both stand on EfficientNet-lite0, so labels that the
clients correct may please it more than they are right. Rows of the studies `food` and `emoji-second` have this one's
opinion beside. Set MOBILENET to the folder of mobilenet_v2_1.0_224.npz, and for dishes FOOD101_RECIPES to the data's.
"""

from __future__ import annotations

import os
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fedloom.config import DataSettings, load_config
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
    """MobileNet v2 at 160 pixels, frozen, under a linear layer that learns real pictures.

    Args:
        weights: NAME.npz.
        data: whose training and reference pictures it learns, none of which the generator has seen, and whose test
            pictures say how often it is right.
    """

    def __init__(self, weights: Path, data: DataSettings) -> None:
        trunk = load_mobilenet(weights)
        self.eye = FeatureClientModel(trunk, 2, 8, 160)
        scene = cached_dataset(data)
        real, test = (part[ClientTask.IMAGE_CLASSIFICATION] for part in (scene.train, scene.test))
        assert isinstance(real, ImageSet)
        assert isinstance(test, ImageSet)
        parts = [real, *([scene.reference] if scene.reference else [])]
        shown, labels = (np.concatenate([getattr(part, what) for part in parts]) for what in ("images", "labels"))
        key = {"trunk": self.eye.features_key, "data": scene.digest, "torch": torch.__version__}

        def look(folder: Path) -> None:
            np.savez(folder / "seen.npz", train=self.features(shown), test=self.features(test.images))

        with np.load(cached("second-judge", key, look) / "seen.npz") as seen:
            x, held = torch.from_numpy(seen["train"]), torch.from_numpy(seen["test"])
        y = torch.from_numpy(labels)
        with global_torch_stream(0, "second judge"):
            self.head = torch.nn.Linear(x.shape[1], scene.classes)
        fit(
            adamw(self.head.parameters(), RATE),
            index_batches(len(x), BATCH, STEPS, numpy_stream(0, "second judge")),
            lambda i: F.cross_entropy(self.head(x[i]), y[i], label_smoothing=0.05),
            schedule=cosine(STEPS),
            name="second judge",
        )
        self.real_accuracy = float((self.head(held).argmax(1).numpy() == test.labels).mean())

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, H, W, 3) to (N, F)."""
        return self.eye.frozen_features(as_stored(images)).numpy()

    def see(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The class of each picture, (N,)."""
        with torch.no_grad():
            return self.head(torch.from_numpy(self.features(images))).argmax(1).numpy()  # type: ignore[no-any-return]


@cache
def judge_of(preset: str, folder: str = "") -> SecondJudge:
    """The second judge of a preset's data; folder: the variable that names theirs, where they have one.

    Raises:
        BadInput: a variable is not set.
    """
    wanted = [name for name in ("MOBILENET", folder) if name]
    if missing := [name for name in wanted if not os.environ.get(name)]:
        raise BadInput(f"the second judge needs {' and '.join(missing)} in the environment, allowed: folders")
    data = load_config(preset=preset).data
    if folder:
        data = data.model_copy(update={"root": os.environ[folder]})
    return SecondJudge(Path(os.environ["MOBILENET"]) / "mobilenet_v2_1.0_224.npz", data)


def _agreement(evaluation: Evaluation, preset: str, folder: str = "") -> float | None:
    """The share of generated pictures in which the second judge sees the class that was asked for."""
    if evaluation.images is None or evaluation.labels is None:
        return None
    return float((judge_of(preset, folder).see(evaluation.images) == evaluation.labels).mean())


def _metric(preset: str, folder: str = "") -> Metric:
    compute = partial(_agreement, preset=preset, folder=folder)
    return Metric("second_judge", "T2I accuracy, second judge", compute, needs=frozenset({"generator"}), unit="%")


EMOJI = _metric("emoji")
FOOD = _metric("food101_recipes", "FOOD101_RECIPES")
