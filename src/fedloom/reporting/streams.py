"""The report on the model that multimodal clients share: what each kind of data can do, alone and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fedloom.reporting.heatmaps import class_picture
from fedloom.reporting.pages import drawn
from fedloom.reporting.plots import stream_curves
from fedloom.reporting.scores import KIND_NAMES, Row, kinds_of, series
from fedloom.runs import RunFiles

if TYPE_CHECKING:
    from fedloom.tasks import Modality

FACTS = {  # of metrics.jsonl: title, meaning, whether it is a share; of the first and the last kind of data
    "dominance": (
        "Dominance",
        "How sure the shared model is of the right class by {first}, over how sure it is by {last}, on what the "
        "clients train on. Above 1 {first} dominate, below 1 {last}.",
        False,
    ),
    "led": (
        "Batches led by {first}",
        "Share of the batches in which {first} were the dominant kind; in the others {last} were.",
        True,
    ),
    "flips": (
        "Changes of the lead",
        "Share of the batches in which another kind was dominant than in the batch before.",
        True,
    ),
}


def streams(run: RunFiles) -> dict[str, Any] | None:
    """Accuracies over rounds and of each class, and what the method reports of training; None without such a model."""
    kinds = kinds_of(run.rounds)
    if not kinds:
        return None
    found: dict[str, Any] = {
        "kinds": [KIND_NAMES[kind][1] for kind in kinds],
        "curves": drawn(partial(stream_curves, run.rounds), "what each kind of data can do, over rounds"),
        "facts": _facts(run.rounds, kinds),
    }
    scored = [row for row in run.rounds if isinstance(row.get("per_class"), Mapping)]
    if scored:
        names, rows = (run.split or {}).get("classes") or (), scored[-1]["per_class"]
        found["classes"] = drawn(partial(class_picture, rows, kinds, names), "accuracy of each class")
        found["round"] = scored[-1].get("round", 0)
    return found


def _facts(rows: Sequence[Row], kinds: Sequence[Modality]) -> list[tuple[str, str, list[float], str]]:
    """What rows hold under `facts`: title, last value, all values, meaning."""
    held = [{"round": row.get("round", 0), **row["facts"]} for row in rows if isinstance(row.get("facts"), Mapping)]
    names = {"first": KIND_NAMES[kinds[0]][1], "last": KIND_NAMES[kinds[-1]][1]}
    lines = []
    for key in dict.fromkeys(key for row in held for key in row if key != "round"):
        if values := series(held, key)[1]:
            known = FACTS.get(key)
            title, meaning = (text.format(**names) for text in known[:2]) if known else (key, "")
            text = f"{100 * values[-1]:.0f}%" if known and known[2] else f"{values[-1]:.2f}"
            lines.append((title, text, values, meaning))
    return lines
