"""Plots over rounds and clients, drawn from the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from fedloom.errors import BadInput
from fedloom.reporting.canvas import (
    BLUE,
    CYCLE,
    GREEN,
    GRID,
    HANDLE,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Target,
    clean,
    legend,
    save,
    style,
)
from fedloom.reporting.lettering import columns
from fedloom.reporting.scores import KIND_SCORES, TOLD, Row, Score, client_score, end_of, series

DPI = 150
COLOURS = {  # generic ones as their own kind
    "image_accuracy": BLUE,
    "text_accuracy": VERMILLION,
    "pair_recall": PURPLE,
    "server_recall": INK,
    "joint_accuracy": BLUE,
    "server_accuracy": INK,
    "server_spread": ORANGE,
    "t2i_accuracy": GREEN,
    "clip_score": PURPLE,
    "fid": SKY,
    "inception_score": ORANGE,
    "generic_clip_score": PURPLE,
    "generic_fid": SKY,
    "generic_inception_score": ORANGE,
}


def _panels(scores: Sequence[Score]) -> tuple[Any, list[Any]]:
    """A figure with a plot for each score, at most three a row."""
    columns = 2 if len(scores) in (2, 4) else min(3, max(1, len(scores)))
    lines = max(1, -(-len(scores) // columns))
    figure = Figure(figsize=(10, 2.75 * lines), dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.08))
    figure.set_facecolor("white")
    grid = figure.subplots(lines, columns, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[max(1, len(scores)) :]:
        spare.set_visible(False)
    return figure, axes


def curves(rows: Sequence[Row], path: Target, *, clients: Mapping[str, Sequence[str]] | None = None) -> None:
    """Every score that a run has, over rounds: the mean as a thick line, each client's own as a thin one.

    What each kind of data can do is another picture: `streams.stream_curves`.

    Args:
        rows: lines of `metrics.jsonl`.
        path: the PNG to write.
        clients: names by modality; by default a client's name begins with its modality.
    """
    present = [score for score in TOLD if score.key not in KIND_SCORES and series(rows, score.key)[0]]
    figure, axes = _panels(present)
    for axis, score in zip(axes, present):
        colour, unit = COLOURS[score.key], score.scale
        names = dict.fromkeys(name for row in rows for name in row.get("per_client") or ())
        for name in names:
            if client_score(end_of(name, clients or {})) == score.key:
                x, y = series(rows, "per_client", name)
                axis.plot(x, np.multiply(y, unit), color=colour, alpha=0.3, linewidth=1.1)
        x, y = series(rows, score.key)
        values = np.multiply(y, unit)
        axis.plot(x, values, color=colour, linewidth=2.4, marker="o", markersize=4)
        axis.annotate(
            f"{values[-1]:.1f}" if score.percent else f"{values[-1]:.2f}",
            (x[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=colour,
            annotation_clip=False,
        )
        style(axis, score.heading)
        axis.margins(y=0.15)
        axis.set_xlim(x[0] - 0.05 * (x[-1] - x[0]) - 0.01, x[-1] + 0.16 * (x[-1] - x[0]) + 0.02)
    if not present:
        _empty(axes[0], "no scores yet")
    save(figure, path)


def _empty(axis: Any, text: str) -> None:
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=11)


def compare_curves(runs: Mapping[str, Sequence[Row]], path: Target) -> None:
    """The scores of several runs over rounds, one colour a run.

    Args:
        runs: the lines of `metrics.jsonl` by the name of the run.
    """
    present = [s for s in TOLD if any(series(rows, s.key)[0] for rows in runs.values())]
    figure, axes = _panels(present)
    handles: dict[str, Any] = {}
    for axis, score in zip(axes, present):
        for number, (name, rows) in enumerate(runs.items()):
            x, y = series(rows, score.key)
            line = ("-", "--", ":")[number // len(CYCLE) % 3]
            values = np.multiply(y, score.scale)
            (handles[name],) = axis.plot(
                x,
                values,
                line,
                color=CYCLE[number % len(CYCLE)],
                linewidth=2,
                marker="o",
                markersize=3,
            )
        style(axis, score.heading)
        axis.margins(x=0.06, y=0.15)
    if present:
        look: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "handlelength": HANDLE}
        # Named here: matplotlib leaves out lines whose own label begins with "_".
        labels = [clean(name, 40) for name in handles]
        figure.legend(list(handles.values()), labels, loc="outside lower center", ncols=3, **look)
    else:
        _empty(axes[0], "no scores yet")
    save(figure, path)


def label_curves(rows: Sequence[Row], path: Target) -> None:
    """How true the labels of synthetic pictures are, before and after the vote; how many are kept."""
    figure = Figure(figsize=(10, 3.2), dpi=DPI, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    lines = (
        ("prompt_accuracy", "prompt, all pictures", MUTED, "--", "o"),
        ("voted_accuracy", "vote, all pictures", BLUE, "-", "o"),
        ("kept_accuracy", "vote, kept pictures", GREEN, "-", "s"),
        ("kept_prompt_accuracy", "prompt, kept pictures", ORANGE, "--", "s"),
        ("dropped_accuracy", "vote, dropped pictures", VERMILLION, ":", "v"),
    )
    for key, name, colour, dash, marker in lines:
        x, y = series(rows, "labels", key)
        if x:
            left.plot(
                x,
                np.multiply(y, 100),
                dash,
                color=colour,
                label=name,
                linewidth=2.1,
                marker=marker,
                markersize=4.5,
            )
    if left.lines:
        style(left, "True labels, % (by the oracle)")
        legend(left, loc="center left", bbox_to_anchor=(1.0, 0.5))
        left.margins(y=0.12)
    else:
        _empty(left, "no label accuracy")
    x, y = series(rows, "labels", "kept_share")
    if x:
        right.bar(x, np.multiply(y, 100), color=SKY, width=0.62)
        right.set_ylim(0, 108)
        if len(x) <= 12:
            for at, value in zip(x, y):
                right.text(at, 100 * value + 1.5, f"{100 * value:.0f}", ha="center", fontsize=8.5, color=INK)
        style(right, "Pictures kept, %")
    else:
        _empty(right, "no kept share")
    save(figure, path)


def bytes_plot(rows: Sequence[Row], path: Target) -> None:
    """Bytes over the wire in each round, up and down: bars as measured, the paper's formula as a line."""
    figure = Figure(figsize=(10, 2.7), dpi=DPI, layout="constrained", facecolor="white")
    sides = (("up", "Up, from all clients", BLUE), ("down", "Down, to all clients", ORANGE))
    for axis, (key, title, colour) in zip(figure.subplots(1, 2), sides):
        rounds, measured = series(rows, f"bytes_{key}")
        largest = max(measured, default=0.0)
        units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
        unit, name = next((u, n) for u, n in units if largest >= u or u == 1)
        axis.bar(rounds, np.divide(measured, unit), width=0.62, color=colour, label="measured")
        x, y = series(rows, f"formula_{key}")
        if x:
            across = np.subtract(x, 0.38), np.add(x, 0.38)
            axis.hlines(np.divide(y, unit), *across, color=INK, linewidth=1.6, label="the paper's formula")
        axis.set_ylim(0, 1.28 * max(largest, *y, 1.0) / unit)
        style(axis, f"{title}, {name} a round")
        legend(axis, loc="upper right", ncols=2, borderaxespad=0)
    save(figure, path)


def split_picture(counts: ArrayLike, client_names: Sequence[str], class_names: Sequence[str], path: Target) -> None:
    """Who holds how much of which class: a row a client, a column a class, darker is more.

    Args:
        counts: integers (K, C).
        client_names: K names.
        class_names: C names.

    Raises:
        BadInput: counts and names disagree.
    """
    table = np.asarray(counts, dtype=np.int64)
    if table.shape != (len(client_names), len(class_names)) or not table.size:
        raise BadInput(f"split: counts {table.shape} for {len(client_names)} clients, {len(class_names)} classes")
    k, c = table.shape
    few = c <= 24
    names = [clean(name, 24) for name in class_names]
    longest = max(map(columns, names))
    height = 0.9 + k * (0.34 if few else 0.3) + longest * 0.062
    figure = Figure(figsize=(10, height), dpi=DPI, layout="constrained", facecolor="white")
    axis = figure.subplots()
    blues = LinearSegmentedColormap.from_list("share", ["#e6f1f9", "#b5d6ec", SKY, BLUE, "#003b63"])
    axis.pcolormesh(np.ma.masked_equal(table, 0), cmap=blues, edgecolors=GRID, linewidth=0.6 if few else 0.25, vmin=1)
    if k * c <= 480 and few:
        for i, j in zip(*np.nonzero(table)):
            dark = table[i, j] > 0.55 * table.max()
            axis.text(
                j + 0.5,
                i + 0.5,
                str(table[i, j]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )
    axis.invert_yaxis()
    axis.set_yticks(np.arange(k) + 0.5, [clean(n, 28) for n in client_names], fontsize=8.5)
    size = 8.5 if few else 6 if c <= 60 else 4.6
    axis.set_xticks(
        np.arange(c) + 0.5,
        names,
        fontsize=size,
        rotation=90 if c * longest > 125 else 0,
    )
    axis.tick_params(length=0, colors=INK)
    totals = axis.secondary_yaxis("right")
    totals.set_yticks(np.arange(k) + 0.5, [str(n) for n in table.sum(1)], fontsize=8.5)
    totals.tick_params(length=0, colors=MUTED)
    for spine in (*axis.spines.values(), *totals.spines.values()):
        spine.set_visible(False)
    axis.set_title(
        "Samples of each class at each client; totals at the right",
        loc="left",
        fontsize=10.5,
        color=INK,
        fontweight="bold",
    )
    save(figure, path)
