"""The report on the vote: what it did to the labels of each class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fedloom.reporting.heatmaps import vote_picture
from fedloom.reporting.pages import drawn
from fedloom.reporting.plots import class_curves
from fedloom.reporting.scores import Row, number
from fedloom.runs import RunFiles

# Of metrics.jsonl's labels: key, name of its row, factor to what is shown, whether rows of that kind share a scale.
VOTE_ROWS = (
    ("drawn_classes", "drawn", 1.0),
    ("voted_classes", "voted", 1.0),
    ("kept_classes", "kept", 1.0),
    ("kept_share_classes", "kept of voted, %", 100.0),
    ("accuracy_classes", "right of kept, %", 100.0),
    ("votes_classes", "mean votes", 1.0),
)


def class_votes(run: RunFiles) -> dict[str, Any] | None:
    """Pictures of the vote by class, of a run whose clients vote; None of any other.

    classes: a heat map of the last round that has labels, `round`; curves: the worst class over the rounds.
    """
    rows = [row for row in run.rounds if _columns(row)]
    if not rows or not any(_columns(row)["votes_classes"] for row in rows):
        return None
    table = _columns(rows[-1])
    names = run.summary.get("class_names") or (run.split or {}).get("classes") or ()
    return {
        "round": rows[-1].get("round", 0),
        "classes": drawn(partial(vote_picture, table, VOTE_ROWS, names), "what the vote did to each class"),
        "curves": drawn(partial(class_curves, [worst_class(row) for row in rows]), "the worst class over rounds"),
    }


def worst_class(row: Row) -> dict[str, Any]:
    """Of a row of metrics.jsonl: its round and labels, and the lowest kept share and accuracy of a class.

    A class that was drawn and nobody voted for has a kept share of 0. None where there is no class to tell of.
    """
    table = _columns(row)
    kept, drawn = table["kept_share_classes"], table["drawn_classes"]
    shares = [0.0 if v is None and n else v for v, n in zip(kept or [None] * len(drawn), drawn)]
    lowest = {
        key: min((v for v in values if v is not None), default=None)
        for key, values in (("kept_share", shares), ("accuracy", table["accuracy_classes"]))
    }
    return {"round": row.get("round", 0), "labels": row["labels"], "worst": lowest}


def _columns(row: Row) -> dict[str, list[float | None]]:
    """The lists of C numbers by key; {} where they are not all there, a list without any number is empty."""
    labels = row.get("labels")
    held = [labels.get(key) for key, *_ in VOTE_ROWS] if isinstance(labels, Mapping) else [None]
    lists = [[number(v) for v in values] for values in held if isinstance(values, list)]
    if len(lists) != len(VOTE_ROWS) or len({len(values) for values in lists}) != 1 or not lists[0]:
        return {}
    told = [values if any(v is not None for v in values) else [] for values in lists]
    return dict(zip((key for key, *_ in VOTE_ROWS), told))
