"""What is done to answers before they leave: randomised response on labels, noise on rows. Pure functions.

Both protect one row: who sees the result cannot tell well what it was before. The other rows do not matter to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def prior_response(prior: Array, epsilon: float) -> tuple[NDArray[np.int64], float]:
    """RRWithPrior (Ghazi et al. 2021, algorithms 2 and 3): which classes are answered, and how often truly.

    Of all k, the k likeliest classes for which the chance of a true answer, e^eps / (e^eps + k - 1) times their prior,
    is largest. With a uniform prior these are all C classes: k-ary randomised response.

    Args:
        prior: shares of the C classes.

    Returns:
        The k classes, likeliest first, and the probability that one of them is answered as it is.
    """
    order = np.argsort(-np.asarray(prior, dtype=np.float64), kind="stable")
    k = np.arange(1, len(order) + 1)
    true = 1 / (1 + (k - 1) * np.exp(-epsilon))
    gain = true * np.cumsum(np.asarray(prior, dtype=np.float64)[order])
    best = int(len(k) - 1 - np.argmax(gain[::-1] >= gain.max() - 1e-12))  # of equals the largest k
    return order[: k[best]].astype(np.int64), float(true[best])


def randomised_labels(labels: Array, prior: Array, epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Labels (S,) by `prior_response`: epsilon-differentially private, each label for itself.

    A label that is none of the k classes, such as -1 for no answer, is one of them at random.
    """
    classes, true = prior_response(prior, epsilon)
    k, given = len(classes), np.asarray(labels)
    place = np.full(len(prior), -1)
    place[classes] = np.arange(k)
    inside = (given >= 0) & (given < len(prior))
    own = np.where(inside, place[np.where(inside, given, 0)], -1)
    other = (np.where(own < 0, 0, own) + rng.integers(1, max(k, 2), len(given))) % k  # one of the k - 1 others
    drawn = np.where(rng.random(len(given)) < true, own, other)
    return classes[np.where(own < 0, rng.integers(0, k, len(given)), drawn)]


def certainty(prior: Array, epsilon: float) -> float:
    """Entropy in nats of an answer by `prior_response` given the truth: what is publicly known of how sure it is."""
    classes, true = prior_response(prior, epsilon)
    shares = np.array([true] + [(1 - true) / max(len(classes) - 1, 1)] * (len(classes) - 1))
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def clipped_rows(rows: Array, clip: float) -> Array:
    """Rows (S, D) of at most that L2 norm; what is not finite in them counts as 0."""
    finite = np.nan_to_num(np.asarray(rows, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    norms = np.linalg.norm(finite, axis=1, keepdims=True)
    held: Array = finite * np.minimum(1.0, clip / np.maximum(norms, 1e-12))
    return held


def noisy_rows(rows: Array, clip: float, multiplier: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Clipped rows (S, D) with Gaussian noise of `multiplier` times 2 `clip`: as far as two clipped rows can differ."""
    held = clipped_rows(rows, clip)
    return (held + rng.normal(0.0, multiplier * 2 * clip, held.shape)).astype(np.float32)
