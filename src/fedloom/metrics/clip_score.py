"""CLIP score: how well pictures match their prompts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput


def clip_score(images: ArrayLike, texts: ArrayLike) -> float:
    """Mean over pairs of max(0, cosine), in [0, 1] (torchmetrics gives 100 times this).

    Args:
        images: (N, D) CLIP embeddings of pictures, of any length; arrays or CPU tensors.
        texts: (N, D) of the prompts, row by row.

    Raises:
        BadInput: no pair, or the shapes differ.
    """
    x, t = (_unit(np.asarray(z, dtype=np.float64)) for z in (images, texts))
    if x.shape != t.shape or x.ndim != 2 or not len(x):
        raise BadInput(f"image embeddings {x.shape} and text embeddings {t.shape} must both be (N, D) with N > 0")
    return float((x * t).sum(1).clip(min=0.0).mean())


def _unit(z: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.sqrt((z * z).sum(-1, keepdims=True)).clip(min=1e-8)
    return np.asarray(z / length)
