"""Frechet distance between two sets of features (FID, when the features are Inception's)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput


def frechet_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """|mu_r - mu_g|^2 + Tr(S_r + S_g - 2 (S_r S_g)^(1/2)), never negative.

    Few samples bias it upwards: compare only at equal numbers. It never forms a matrix square root: with S_r = A'A and
    S_g = B'B the last trace is the sum of singular values of A B', which stays exact where covariances are singular
    (fewer samples than features).

    Args:
        real: (N, D) features; arrays or CPU tensors.
        generated: (M, D) features.

    Raises:
        BadInput: fewer than two rows, widths that differ, or a value that is not finite.
    """
    x, y = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise BadInput(
            f"features {x.shape} and {y.shape} must be (N, D) and (M, D) with at least 2 rows each"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BadInput("Frechet distance: a feature is not finite")
    a, b = _root(x), _root(y)
    shift = x.mean(0) - y.mean(0)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (a * a).sum() + (b * b).sum() - 2.0 * cross))


def _root(x: NDArray[Any]) -> NDArray[Any]:
    """A (at most D rows) with A'A the covariance of the rows of x."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(x) > x.shape[1] else centred
