"""Canaries: samples that stand out, each in a client's training data by the toss of a coin, for a privacy audit.

Who sees what the client sends guesses the coins; how many guesses are right bounds epsilon from below
(`privacy.one_run`). Coins are independent and fair, as the bound needs them to be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedloom.config.data import CanarySettings
from fedloom.data.containers import ImageSet, TextSet


@dataclass(frozen=True)
class Planted:
    """samples: what the client trains on; canaries: all m of them; inside bool (m,): which of them it trains on."""

    samples: ImageSet | TextSet
    canaries: ImageSet | TextSet
    inside: NDArray[np.bool_]


def plant(held: ImageSet | TextSet, settings: CanarySettings, classes: int, rng: np.random.Generator) -> Planted:
    """Canaries among a client's samples.

    mislabelled: m of its own samples, each under another class, chosen evenly; the others stay as they are, and there
    are at most half as many canaries as samples. random: m new samples without a meaning, noise or shuffled words.

    Args:
        classes: C, of its labels.
        rng: the client's own stream.
    """
    n = len(held)
    m = settings.count if settings.kind == "random" else min(settings.count, n // 2)
    inside = rng.random(m) < 0.5
    if settings.kind == "mislabelled":
        order = rng.permutation(n)
        taken, rest = np.sort(order[:m]), np.sort(order[m:])
        own = held.subset(taken)
        canaries = replace(own, labels=(own.labels + rng.integers(1, classes, m)) % classes)
    else:
        rest, canaries = np.arange(n), _drawn(held, m, classes, rng)
    return Planted(joined(held.subset(rest), canaries.subset(np.flatnonzero(inside))), canaries, inside)


def _drawn(held: ImageSet | TextSet, m: int, classes: int, rng: np.random.Generator) -> ImageSet | TextSet:
    """m samples of noise like those held, under any label."""
    labels = rng.integers(0, classes, m)
    if isinstance(held, ImageSet):
        return ImageSet(rng.integers(0, 256, (m, *held.images.shape[1:]), dtype=np.uint8), labels)
    words = sorted({word for text in held.texts for word in text.split()}) or ["word"]
    lengths = [len(text.split()) for text in held.texts] or [8]
    return TextSet(tuple(" ".join(rng.choice(words, max(1, rng.choice(lengths)))) for _ in range(m)), labels)


def joined(one: ImageSet | TextSet, two: ImageSet | TextSet) -> ImageSet | TextSet:
    """The samples of both, in their order."""
    labels = np.concatenate([one.labels, two.labels])
    if isinstance(one, ImageSet) and isinstance(two, ImageSet):
        return ImageSet(np.concatenate([one.images, two.images]), labels)
    assert isinstance(one, TextSet)
    assert isinstance(two, TextSet)
    return TextSet((*one.texts, *two.texts), labels)
