"""The part of the report on the model that joint clients share: what each kind of data can do, alone and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fedloom.data.tasks import Modality
from fedloom.reporting.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    SKY,
    VERMILLION,
    Target,
    clean,
    legend,
    save,
    style,
)
from fedloom.reporting.lettering import columns
from fedloom.reporting.markup import Markup, drawn, join, section, sparkline, table
from fedloom.reporting.plots import DPI
from fedloom.reporting.scores import KIND_NAMES, Row, kinds_of, number, series
from fedloom.runs import RunFiles

KIND_COLOURS: Mapping[Modality, str] = {Modality.AUDIO: GREEN, Modality.IMAGE: BLUE, Modality.TEXT: VERMILLION}
NUMBERED = 40  # classes up to which the figures stand in the picture


def streams(run: RunFiles) -> Markup:
    """Accuracies over rounds and of each class, and what the method tells of its inner life."""
    kinds = kinds_of(run.rounds)
    if not kinds:
        return Markup("")
    parts = [drawn(partial(stream_curves, run.rounds), "what each kind of data can do, over rounds")]
    scored = [row for row in run.rounds if isinstance(row.get("per_class"), Mapping)]
    if scored:
        last = scored[-1]
        names, rows = (run.split or {}).get("classes") or (), last["per_class"]
        picture = drawn(lambda target: class_picture(rows, kinds, names, target), "accuracy of each class")
        parts.append(Markup(f"<h3>Class by class, after round {last.get('round', 0):d}</h3>{picture}"))
    if found := _facts(run.rounds, kinds):
        parts.append(join([Markup("<h3>What the clients saw in training</h3>"), found]))
    names = " and ".join(KIND_NAMES[kind][1] for kind in kinds)
    note = (
        f"The model that the clients share, on test samples of {names}. Own: by the classifier of that kind alone, or, "
        "where a method has none, by the fused one with zeros in the other's place. Linear probe: what a linear reader "
        "gets out of that kind's features. Substitute: what the method puts in a missing kind's place."
    )
    return section("What each kind of data can do", note, *parts)


def stream_curves(rows: Sequence[Row], path: Target) -> None:
    """Two plots over rounds: each kind on its own beside both together, and the fused model where a kind is missing.

    Args:
        rows: lines of `metrics.jsonl`.
        path: the PNG to write.
    """
    figure = Figure(figsize=(10, 3.6), dpi=DPI, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    for axis in (left, right):
        _line(axis, rows, "server_accuracy", "both kinds", INK, linewidth=2.6)
    for kind in kinds_of(rows):
        name, colour = KIND_NAMES[kind][0], KIND_COLOURS[kind]
        _line(left, rows, f"{kind}_own", f"{name}, own", colour, marker="o")
        _line(left, rows, f"{kind}_probe", f"{name}, linear probe", colour, linestyle="--", linewidth=1.5)
        _line(right, rows, f"{kind}_filled", f"{name} alone, with substitute", colour, marker="o")
        _line(right, rows, f"{kind}_zeros", f"{name} alone, with zeros", colour, linestyle=":")
    style(left, "Accuracy of each kind on its own, %")
    style(right, "Accuracy of the fused model where a kind is missing, %")
    for axis in (left, right):
        axis.tick_params(labelleft=True)
        axis.margins(x=0.04, y=0.1)
        legend(axis, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    save(figure, path)


def _line(axis: Any, rows: Sequence[Row], key: str, name: str, colour: str, **look: Any) -> None:
    x, y = series(rows, key)
    if x:
        axis.plot(x, np.multiply(y, 100), color=colour, label=name, **{"linewidth": 2, "markersize": 4, **look})


def class_picture(
    per_class: Mapping[str, Any], kinds: Sequence[Modality], class_names: Sequence[str], path: Target
) -> None:
    """Accuracy of each class by both kinds of data and by either alone: a row each, a column a class.

    Classes stand in the order of the kinds' difference: those that the first kind tells better are at the left.

    Args:
        per_class: of a row of `metrics.jsonl`: accuracies by name, None for a class without test samples.
        kinds: of the streams.
        class_names: C names; of another number, classes are numbered.
        path: the PNG to write.
    """
    keys = ["server", *(f"{kind}_own" for kind in kinds)]
    shares = [[number(v) for v in per_class.get(key) or ()] for key in keys]
    table = 100 * np.array([[np.nan if v is None else v for v in row] for row in shares])
    C = table.shape[1]
    names = [clean(n, 24) for n in class_names] if len(class_names) == C else [f"{c}" for c in range(C)]
    gap = np.nan_to_num(table[1] - table[-1])
    order = np.argsort(-gap, kind="stable")
    table, names = table[:, order], [names[i] for i in order]
    longest = max(map(columns, names))
    upright = C * longest > 110
    height = 1.5 + (0.07 * longest if upright else 0)
    figure = Figure(figsize=(10, height), dpi=DPI, layout="constrained", facecolor="white")
    axis = figure.subplots()
    blues = LinearSegmentedColormap.from_list("share", ["#f4f8fb", "#b5d6ec", SKY, BLUE, "#003b63"])
    axis.pcolormesh(np.ma.masked_invalid(table), cmap=blues, edgecolors="white", linewidth=1, vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value) and C <= NUMBERED:
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5 if C <= 20 else 7}
            axis.text(j + 0.5, i + 0.5, f"{value:.0f}", color="white" if value > 55 else INK, **place)
    axis.invert_yaxis()
    sides = ["both kinds", *(f"{KIND_NAMES[kind][0]}, own" for kind in kinds)]
    axis.set_yticks(np.arange(len(keys)) + 0.5, sides, fontsize=8.5)
    size = 8.5 if C <= 40 else 6 if C <= 60 else 4.6
    axis.set_xticks(np.arange(C) + 0.5, names, fontsize=size, rotation=90 if upright else 0)
    axis.tick_params(length=0, colors=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    title = f"Accuracy of each class, %; {KIND_NAMES[kinds[0]][0]} leads at the left"
    title += f", {KIND_NAMES[kinds[-1]][0]} at the right" if len(kinds) > 1 else ""
    axis.set_title(title, loc="left", fontsize=10.5, color=MUTED)
    save(figure, path)


def _facts(rows: Sequence[Row], kinds: Sequence[Modality]) -> Markup:
    """What the rows tell under `facts`: the last value of each, its way there, and what it means."""
    told = [{"round": row.get("round", 0), **row["facts"]} for row in rows if isinstance(row.get("facts"), Mapping)]
    lines = []
    for name in dict.fromkeys(key for row in told for key in row if key != "round"):
        if values := series(told, name)[1]:
            title, meaning, share = _meaning(name, kinds)
            text = f"{100 * values[-1]:.0f}%" if share else f"{values[-1]:.2f}"
            lines.append((title, text, sparkline(values), meaning))
    return table(("Fact", "Last", "Over the rounds", "What it says"), lines, numbers=(1,))


def _meaning(name: str, kinds: Sequence[Modality]) -> tuple[str, str, bool]:
    """A fact's title, what it says in a sentence, and whether it is a share."""
    first, second = (KIND_NAMES[kind][1] for kind in (kinds[0], kinds[-1]))
    known = {
        "dominance": (
            "Dominance",
            f"How sure the shared model is of the right class by {first}, over how sure it is by {second}, on what the "
            f"clients train on. Above 1 {first} dominate, below 1 {second}.",
            False,
        ),
        "led": (
            f"Batches led by {first}",
            f"Share of the batches in which {first} were the dominant kind; in the others {second} were.",
            True,
        ),
        "flips": (
            "Changes of the lead",
            "Share of the batches in which another kind was dominant than in the batch before.",
            True,
        ),
    }
    return known.get(name, (name, "", False))
