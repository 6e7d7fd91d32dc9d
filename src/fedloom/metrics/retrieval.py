"""Recall at 1, 5 and 10 between pictures and captions, from their representations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput, unknown

K = (1, 5, 10)
FOLD_1K = 1000  # pictures of a fold in COCO's 1K protocol
TIE = 1e-12  # scores that differ by no more are equal: above rounding in a sum, far below any real difference
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recalls:
    """Shares in [0, 1] of queries with a right answer among the first 1, 5 and 10.

    i2t: a picture asks, any of its captions is right; t2i: a caption asks, its picture is right. images, folds: how
    many pictures were scored, in how many folds.
    """

    i2t_r1: float
    i2t_r5: float
    i2t_r10: float
    t2i_r1: float
    t2i_r5: float
    t2i_r10: float
    images: int
    folds: int = 1

    def total(self, terms: Sequence[str] = ("i2t_r1", "t2i_r1")) -> float:
        """The sum of the named recalls: by default R@1 both ways (FedAFD's server), with TERMS the six of VSE++.

        Raises:
            BadInput: a name that is no recall, or one named twice.
        """
        for n, term in enumerate(terms):
            if term not in TERMS:
                raise unknown("recall", str(term), TERMS)
            if term in terms[:n]:
                raise BadInput(f"recall sum: {term!r} is named twice")
        return float(sum(getattr(self, term) for term in terms))


TERMS = tuple(f.name for f in fields(Recalls) if "_r" in f.name)


def recalls(
    images: ArrayLike, captions: ArrayLike, owner: ArrayLike, *, fold: int | None = None, tile: int = 256
) -> Recalls:
    """Recalls by cosine similarity; memory O(tile N).

    Equal scores count against: a right answer comes after every wrong one that scores the same, so representations
    that are all alike recall nothing.

    Args:
        images: (N, D) representations of pictures, of any length; arrays or CPU tensors.
        captions: (M, D) of captions, any number a picture. A picture without one asks nothing, but may be found.
        owner: int (M,), the picture of each caption, in any order.
        fold: None scores all at once (COCO 5K, Flickr30k). A number scores each run of so many consecutive pictures,
            with their captions, alone, and takes the mean over the runs (COCO 1K: FOLD_1K); pictures left over after
            the last full run are not scored, see Recalls.images.
        tile: captions compared at a time.

    Raises:
        BadInput: shapes that disagree, no pair, an owner out of range, rows that are not finite (named), a fold larger
            than N or without captions.
    """
    x, t = _rows(images, "image"), _rows(captions, "caption")
    own = np.asarray(owner)
    if x.shape[1] != t.shape[1]:
        raise BadInput(f"image representations {x.shape} and caption representations {t.shape} differ in width")
    if own.shape != (len(t),) or not np.issubdtype(own.dtype, np.integer):
        raise BadInput(f"owner is {own.dtype} {own.shape}, expected integers ({len(t)},), one a caption")
    if own.min() < 0 or own.max() >= len(x):
        wrong = own.min() if own.min() < 0 else own.max()
        raise BadInput(f"owner names image {int(wrong)}, allowed: 0..{len(x) - 1}")
    if tile < 1:
        raise BadInput(f"tile={tile}, allowed: 1 or more captions")
    size = len(x) if fold is None else fold
    if not 1 <= size <= len(x):
        raise BadInput(f"fold={fold}, allowed: 1 to the number of images, {len(x)}")
    scores = []
    for first in range(0, len(x) - size + 1, size):
        at = np.flatnonzero((own >= first) & (own < first + size))
        if not len(at):
            raise BadInput(f"images {first}..{first + size - 1} have no captions, so their fold has no recall")
        scores.append(_of_fold(x[first : first + size], t[at], own[at] - first, tile))
    mean = dict(zip(TERMS, np.mean(scores, axis=0).tolist()))
    return Recalls(**mean, images=size * len(scores), folds=len(scores))


def _rows(z: ArrayLike, what: str) -> Array:
    """Unit rows (a row of zeros stays zero), float64."""
    rows = np.asarray(z, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise BadInput(f"{what} representations {rows.shape} must be (N, D) with N, D > 0")
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        named = ", ".join(map(str, bad[:5].tolist())) + (", ..." if len(bad) > 5 else "")
        raise BadInput(f"{what} representations: {len(bad)} of {len(rows)} rows are not finite: {named}")
    peak = np.abs(rows).max(1, keepdims=True)  # first to at most 1, so that no square overflows or vanishes
    rows = rows / np.where(peak > 0, peak, 1.0)
    length = np.sqrt((rows * rows).sum(1, keepdims=True))
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def _of_fold(x: Array, t: Array, own: NDArray[Any], tile: int) -> list[float]:
    """The six recalls in the order of TERMS. x (N, D) and t (M, D) unit rows, own (M,)."""
    N, M = len(x), len(t)
    tiles = [slice(first, first + tile) for first in range(0, M, tile)]
    right = np.concatenate([(x[own[s]] * t[s]).sum(1) for s in tiles])  # (M,) each caption with its picture
    best = np.full(N, -np.inf)
    np.maximum.at(best, own, right)  # (N,) each picture's best caption; -inf without any
    before_image = np.zeros(N, dtype=np.int64)  # wrong captions at least as good as the best right one
    before_caption = np.empty(M, dtype=np.int64)  # wrong pictures at least as good as the right one
    for s in tiles:
        scores = t[s] @ x.T  # (tile, N)
        scores[np.arange(len(scores)), own[s]] = -np.inf
        before_caption[s] = (scores >= right[s, None] - TIE).sum(1)
        before_image += (scores >= best - TIE).sum(0)
    asked = before_image[np.isfinite(best)]
    return [float((rank < k).mean()) for rank in (asked, before_caption) for k in K]
