"""Attribute accuracy: how many of its class's fixed attributes does a drawn picture show?"""

from __future__ import annotations

import numpy as np

from fedloom.metrics.base import Evaluation, Metric


def attribute_accuracy(evaluation: Evaluation) -> float | None:
    """Share, over drawn pictures and attributes that all real pictures of a class have in common, of those shown.

    None without such an attribute.
    """
    assert evaluation.labels is not None
    found = []
    for shown in evaluation.attributes.values():
        known = shown.real.sum(1)[evaluation.labels] > 0
        if not shown.varies:
            found.append((shown.drawn == shown.real.argmax(1)[evaluation.labels])[known])
    return float(np.concatenate(found).mean()) if found and len(np.concatenate(found)) else None


METRIC = Metric(
    "attribute_accuracy",
    "Attribute accuracy",
    attribute_accuracy,
    needs=frozenset({"generator", "attributes"}),
    unit="%",
    note="share of a class's fixed attributes that a drawn picture shows",
)
