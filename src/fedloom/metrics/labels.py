"""How good the round's labels are, measured by the judge (a diagnostic; no method sees it)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedloom.errors import BadInput

LabelReport = dict[str, float | None]


def label_report(drawn: ArrayLike, voted: ArrayLike, kept: ArrayLike, judged: ArrayLike) -> LabelReport:
    """Shares of samples on which a label agrees with the judge's, None where there is no such sample.

    Args:
        drawn: (S,) class each sample was prompted with.
        voted: (S,) label the clients gave it, -1 where nobody voted.
        kept: bool (S,), passed the filter.
        judged: (S,) label by the judge.

    Returns:
        prompt_accuracy: drawn labels, all samples.
        voted_accuracy: voted labels, all samples with a vote.
        kept_accuracy: voted labels, kept samples.
        dropped_accuracy: voted labels, dropped samples with a vote.
        kept_prompt_accuracy: drawn labels, kept samples (what correction adds is kept_accuracy less this).
        kept_share: kept of all.

    Raises:
        BadInput: lengths differ.
    """
    c, y, k, j = np.asarray(drawn), np.asarray(voted), np.asarray(kept, dtype=bool), np.asarray(judged)
    if not c.shape == y.shape == k.shape == j.shape or c.ndim != 1:
        raise BadInput(f"drawn {c.shape}, voted {y.shape}, kept {k.shape} and judged {j.shape} must all be (S,)")

    def share(labels: ArrayLike, among: ArrayLike) -> float | None:
        hits = (labels == j)[among]  # type: ignore[index]
        return float(hits.mean()) if len(hits) else None

    everyone, has_vote = np.ones(len(c), dtype=bool), y >= 0
    return {
        "prompt_accuracy": share(c, everyone),
        "voted_accuracy": share(y, has_vote),
        "kept_accuracy": share(y, k),
        "dropped_accuracy": share(y, ~k & has_vote),
        "kept_prompt_accuracy": share(c, k),
        "kept_share": float(k.mean()) if len(k) else None,
    }


def class_counts(drawn: ArrayLike, voted: ArrayLike, kept: ArrayLike, classes: int) -> dict[str, list[int]]:
    """Samples of each class, C numbers each.

    Args:
        drawn: (S,) class each sample was prompted with.
        voted: (S,) label the clients gave it, -1 where nobody voted.
        kept: bool (S,), passed the filter.
        classes: C.

    Returns:
        drawn_classes: by the class prompted. voted_classes: by the voted label. kept_classes: of the kept samples,
        by the voted label.
    """
    c, y, k = np.asarray(drawn), np.asarray(voted), np.asarray(kept, dtype=bool)

    def count(labels: NDArray[np.int64]) -> list[int]:
        return [int(n) for n in np.bincount(labels[labels >= 0], minlength=classes)]

    return {"drawn_classes": count(c), "voted_classes": count(y), "kept_classes": count(y[k])}


def class_quality(
    voted: ArrayLike, kept: ArrayLike, judged: ArrayLike, votes: ArrayLike | None, classes: int
) -> dict[str, list[int] | list[float | None]]:
    """How good the labels of each class are, C numbers each; None where there is no such sample.

    Args:
        voted: (S,) label the clients gave it, -1 where nobody voted.
        kept: bool (S,), passed the filter.
        judged: (S,) label by the judge.
        votes: (S,) raw votes for the voted label; None where clients do not vote.
        classes: C.

    Returns:
        true_classes: samples by the judge's label. right_classes: kept samples by the voted label, where it is the
        judge's. kept_share_classes: kept of the samples with that voted label. accuracy_classes: right of the kept
        ones. votes_classes: mean raw votes of the samples with that voted label.
    """
    y, k, j = np.asarray(voted), np.asarray(kept, dtype=bool), np.asarray(judged)

    def count(among: NDArray[np.bool_], labels: NDArray[np.int64] = y) -> NDArray[np.int64]:
        return np.bincount(labels[among & (labels >= 0)], minlength=classes)

    has_vote = y >= 0
    total, held, right = count(has_vote), count(k), count(k & (y == j))
    raw = None if votes is None else np.bincount(y[has_vote], np.asarray(votes)[has_vote], minlength=classes)
    return {
        "true_classes": count(np.ones(len(j), dtype=bool), j).tolist(),
        "right_classes": right.tolist(),
        "kept_share_classes": _ratios(held, total),
        "accuracy_classes": _ratios(right, held),
        "votes_classes": [None] * classes if raw is None else _ratios(raw, total),
    }


def _ratios(part: NDArray[Any], whole: NDArray[np.int64]) -> list[float | None]:
    """part / whole (C,), None where whole is 0."""
    return [float(a / n) if n else None for a, n in zip(part, whole, strict=True)]
