"""Recalls the long way round: every score, every rank, one query at a time."""

from __future__ import annotations

import math

from reference.vectors import cosine

TIE = 1e-12


def recalls(
    images: list[list[float]], captions: list[list[float]], owner: list[int], fold: int | None = None
) -> dict[str, float]:
    """The six recalls: the mean over full folds; a tie with a wrong answer is lost."""
    size = fold or len(images)
    each = []
    for first in range(0, len(images) - size + 1, size):
        x = images[first : first + size]
        of = [(t, o - first) for t, o in zip(captions, owner, strict=True) if first <= o < first + size]
        each.append(_one(x, of))
    return {term: math.fsum(r[term] for r in each) / len(each) for term in each[0]}


def _one(x: list[list[float]], captions: list[tuple[list[float], int]]) -> dict[str, float]:
    i2t, t2i = [], []
    for i, image in enumerate(x):
        right = [cosine(image, t) for t, o in captions if o == i]
        wrong = [cosine(image, t) for t, o in captions if o != i]
        if right:
            i2t.append(sum(score >= max(right) - TIE for score in wrong))
    for t, o in captions:
        right_score = cosine(x[o], t)
        t2i.append(sum(cosine(image, t) >= right_score - TIE for i, image in enumerate(x) if i != o))
    return {
        f"{name}_r{k}": sum(rank < k for rank in ranks) / len(ranks)
        for name, ranks in (("i2t", i2t), ("t2i", t2i))
        for k in (1, 5, 10)
    }
