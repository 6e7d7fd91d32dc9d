"""Collapse of a generator that is tuned on what it drew itself: seen by the clients, without judge, and undone.

After each round it draws some pictures of every class, always from the same noise, which clients are asked about like
any shared samples. Where they name the right class less often, or for fewer classes, by more than a share and by more
than chance, or where pictures of a class have become alike, the tuner is put back to where it was before the round.
Ours: the papers let the generator go on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedloom.methods.replies import ClientOutputs
from fedloom.methods.state import Kept, State, Stateful
from fedloom.methods.tuning import Tuner

Parts = dict[str, NDArray[np.float64]]  # a measure's parts: of pictures, or of classes; NaN where nobody answered
MEASURES = ("check_agreement", "check_classes", "check_diversity")
CHANCE = 2.0  # standard errors of a mean difference that chance alone may make
# Of how much pictures of a class differ, half may go: they differ less as soon as labels are corrected, since what was
# drawn for a class before is of several.
ALIKE = 0.5


class CollapseGuard(Stateful):
    """What the best round so far was like.

    Args:
        tolerance: the share of its best that a measure may lose, but for the last of them, which may lose `ALIKE`.
    """

    best: Kept[Parts]
    widest: Kept[float | None]  # how much pictures of a class differed before the first round, mean over classes

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.best, self.widest = {}, None

    def begin(self, images: NDArray[np.uint8], labels: NDArray[np.int64], outputs: ClientOutputs) -> None:
        """Take what is drawn before the first round as what is not to be lost."""
        self.widest = float(variation(images, labels).mean())
        self.best = self.measure(images, labels, outputs)

    def measure(self, images: NDArray[np.uint8], labels: NDArray[np.int64], outputs: ClientOutputs) -> Parts:
        """For each picture (N, H, W, 3) the share of answers that name the class (N,) it was drawn for; for each class,
        whether most answers do, and how much its pictures differ, over how much those of a class did at first.
        """
        present = outputs.present.numpy()  # (K, N)
        right, asked = ((outputs.labels.numpy() == labels) & present).sum(0), present.sum(0)
        shares = np.divide(right, asked, out=np.full(len(labels), np.nan), where=asked > 0)
        seen = np.array([right[labels == c].sum() > asked[labels == c].sum() / 2 for c in np.unique(labels)])
        return dict(zip(MEASURES, (shares, seen.astype(np.float64), variation(images, labels) / (self.widest or 1.0))))

    def undo(self, found: Parts, tuner: Tuner, before: State) -> bool:
        """Put the tuner back to its state `before` where a measure has fallen; else keep the best. Whether it did."""
        most = dict.fromkeys(MEASURES, self.tolerance) | {MEASURES[-1]: max(self.tolerance, ALIKE)}
        if any(fallen(best, found[name], most[name]) for name, best in self.best.items()):
            tuner.generator.touched()
            tuner.load_state(*before)
            return True
        self.best = {k: found[k] if np.nanmean(found[k]) > np.nanmean(b) else b for k, b in self.best.items()}
        return False


def fallen(best: NDArray[np.float64], now: NDArray[np.float64], tolerance: float) -> bool:
    """Whether the mean of a measure has lost more than the share `tolerance` of its best, and more than chance takes.

    Pictures come from the same noise each time, so parts (n,) are compared one with one.
    """
    known = np.isfinite(best) & np.isfinite(now)
    if known.sum() < 2:
        return False
    fall = (best - now)[known]
    error = fall.std(ddof=1) / np.sqrt(len(fall))
    return bool(fall.mean() > max(tolerance * best[known].mean(), CHANCE * error))


def means(found: Parts) -> dict[str, float]:
    """A number a measure."""
    return {name: float(np.nanmean(parts)) if np.isfinite(parts).any() else 0.0 for name, parts in found.items()}


def variation(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much pictures (N, H, W, 3) of each class differ, (C,): a pixel's standard deviation, mean over pixels."""
    return np.array([images[labels == c].std(0).mean() for c in np.unique(labels)])


def kept_state(tuner: Tuner) -> State:
    """A copy of the tuner's state, which later steps do not change."""
    arrays, rest = tuner.state()
    return {name: value.copy() for name, value in arrays.items()}, rest
