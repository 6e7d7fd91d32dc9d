"""Frechet distance between two sets of features (FID, when the features are Inception's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput


@dataclass(frozen=True)
class Moments:
    """What the distance needs of a set of features, so that it is computed once for pictures seen again and again.

    mean (D,); root (at most D rows, D), A with A'A the covariance.
    """

    mean: NDArray[Any]
    root: NDArray[Any]


def moments(features: ArrayLike) -> Moments:
    """Mean and root of the covariance of features (N, D); arrays or CPU tensors. O(N D^2) once.

    Raises:
        BadInput: fewer than two rows, or a value that is not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise BadInput(f"features {x.shape} must be (N, D) with at least 2 rows")
    if not np.isfinite(x).all():
        raise BadInput("Frechet distance: a feature is not finite")
    mean = x.mean(0)
    centred = (x - mean) / np.sqrt(len(x) - 1)
    root = np.asarray(np.linalg.qr(centred, mode="r")) if len(x) > x.shape[1] else centred
    return Moments(mean, root)


def frechet_distance(real: ArrayLike | Moments, generated: ArrayLike | Moments) -> float:
    """|mu_r - mu_g|^2 + Tr(S_r + S_g - 2 (S_r S_g)^(1/2)), never negative.

    Few samples bias it upwards: compare only at equal numbers. It never forms a matrix square root: with S_r = A'A and
    S_g = B'B the last trace is the sum of singular values of A B', which stays exact where covariances are singular
    (fewer samples than features).

    Args:
        real: (N, D) features, or their moments; arrays or CPU tensors.
        generated: (M, D) features, or their moments.

    Raises:
        BadInput: fewer than two rows, widths that differ, or a value that is not finite.
    """
    r, g = (x if isinstance(x, Moments) else moments(x) for x in (real, generated))
    if r.mean.shape != g.mean.shape:
        raise BadInput(f"features of widths {len(r.mean)} and {len(g.mean)}: both sets must be of one network")
    shift = r.mean - g.mean
    cross = np.linalg.svd(r.root @ g.root.T, compute_uv=False).sum()
    traces = [(x.root * x.root).sum() for x in (r, g)]
    return max(0.0, float(shift @ shift + traces[0] + traces[1] - 2.0 * cross))
