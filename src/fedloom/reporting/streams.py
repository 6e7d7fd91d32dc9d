"""The report on the model that multimodal clients share: what each kind of data can do, alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fedloom.reporting.facts import method_facts
from fedloom.reporting.heatmaps import class_picture
from fedloom.reporting.pages import drawn
from fedloom.reporting.plots import stream_curves
from fedloom.reporting.scores import KIND_NAMES, kinds_of
from fedloom.runs import RunFiles


def streams(run: RunFiles) -> dict[str, Any] | None:
    """Accuracies over rounds and of each class, and what the method reports of training; None without such a model."""
    kinds = kinds_of(run.rounds)
    if not kinds:
        return None
    found: dict[str, Any] = {
        "kinds": [KIND_NAMES[kind][1] for kind in kinds],
        "curves": drawn(partial(stream_curves, run.rounds), "what each kind of data can do, over rounds"),
        "facts": method_facts(run.rounds, kinds),
    }
    scored = [row for row in run.rounds if isinstance(row.get("per_class"), Mapping)]
    if scored:
        names, rows = (run.split or {}).get("classes") or (), scored[-1]["per_class"]
        found["classes"] = drawn(partial(class_picture, rows, kinds, names), "accuracy of each class")
        found["round"] = scored[-1].get("round", 0)
    return found
