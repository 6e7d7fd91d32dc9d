"""Variety coverage: do the pictures of a class vary as real ones do, in what the class does not say?"""

from __future__ import annotations

import numpy as np

from fedloom.metrics.base import Evaluation, Metric, shares


def variety_coverage(evaluation: Evaluation) -> float | None:
    """Mean over classes, and over attributes that vary within a class, of 1 - total variation distance between drawn
    and real shares of the values: in [0, 1], 1 where they are equal. None without such an attribute.

    With n pictures a class even real ones fall short: of two equally frequent values by 0.4 / sqrt(n).
    """
    assert evaluation.labels is not None
    found = []
    for shown in evaluation.attributes.values():
        if shown.varies:
            drawn = shares(shown.drawn, evaluation.labels, shown.real.shape)
            both = (drawn.sum(1) > 0) & (shown.real.sum(1) > 0)
            found.append(1 - 0.5 * np.abs(drawn - shown.real)[both].sum(1))
    return float(np.concatenate(found).mean()) if found and len(np.concatenate(found)) else None


METRIC = Metric(
    "variety_coverage",
    "Variety coverage",
    variety_coverage,
    needs=frozenset({"generator", "attributes"}),
    unit="%",
    note="1 - total variation distance of the drawn from the real varieties of a class, mean over classes",
)
