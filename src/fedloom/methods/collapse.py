"""Collapse of a generator that is tuned on what it drew itself: seen by the clients, without judge, and undone.

After each round it draws some pictures of every class, always from the same noise, which clients are asked about like
any shared samples. Where they name the right class less often, for fewer classes, or where pictures of a class have
become alike, the tuner is put back to where it was before the round. Ours: the papers let the generator go on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedloom.methods.replies import ClientOutputs
from fedloom.methods.state import Kept, State, Stateful
from fedloom.methods.tuning import Tuner

MEASURES = ("check_agreement", "check_classes", "check_diversity")


class CollapseGuard(Stateful):
    """What the best round so far was like.

    Args:
        tolerance: how far a measure may fall below its best; all are shares.
    """

    best: Kept[dict[str, float]]
    widest: Kept[float | None]  # how much pictures of a class differed before the first round

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.best, self.widest = {}, None

    def begin(self, images: NDArray[np.uint8], labels: NDArray[np.int64], outputs: ClientOutputs) -> None:
        """Take what is drawn before the first round as what is not to be lost."""
        self.widest = variation(images, labels)
        self.best = self.measure(images, labels, outputs)

    def measure(self, images: NDArray[np.uint8], labels: NDArray[np.int64], outputs: ClientOutputs) -> dict[str, float]:
        """The share of answers that name the class (N,) a picture (N, H, W, 3) was drawn for, that of classes of which
        most answers do, and how much pictures of a class differ, over how much they did at first.
        """
        right = ((outputs.labels.numpy() == labels) & outputs.present.numpy()).sum(0)  # (N,), of K clients
        asked = outputs.present.numpy().sum(0)
        classes = np.unique(labels)
        seen = [right[labels == c].sum() > asked[labels == c].sum() / 2 for c in classes]
        shares = (right.sum() / max(asked.sum(), 1), np.mean(seen), variation(images, labels) / (self.widest or 1.0))
        return dict(zip(MEASURES, map(float, shares)))

    def undo(self, found: dict[str, float], tuner: Tuner, before: State) -> bool:
        """Put the tuner back to its state `before` where a measure has fallen; else keep the best. Whether it did."""
        if any(found[name] < best - self.tolerance for name, best in self.best.items()):
            tuner.generator.touched()
            tuner.load_state(*before)
            return True
        self.best = {name: max(found[name], best) for name, best in self.best.items()}
        return False


def variation(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """How much pictures (N, H, W, 3) of a class differ: a pixel's standard deviation, mean over pixels and classes."""
    return float(np.mean([images[labels == c].std(0).mean() for c in np.unique(labels)]))


def kept_state(tuner: Tuner) -> State:
    """A copy of the tuner's state, which later steps do not change."""
    arrays, rest = tuner.state()
    return {name: value.copy() for name, value in arrays.items()}, rest
