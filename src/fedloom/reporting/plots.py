"""Plots over rounds, drawn from the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from fedloom.reporting.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Target,
    empty,
    from_least,
    legend,
    legend_below,
    line_look,
    panels,
    save,
    style,
)
from fedloom.reporting.scores import (
    KIND_NAMES,
    KIND_SCORES,
    TOLD,
    Row,
    client_score,
    end_of,
    kinds_of,
    least_of,
    series,
)
from fedloom.tasks import Modality

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
KIND_COLOURS = {Modality.AUDIO: GREEN, Modality.IMAGE: BLUE, Modality.TEXT: VERMILLION}
LABEL_LINES = (  # of the labels of synthetic pictures: key, name, colour, dashes, marks
    ("prompt_accuracy", "prompt, all pictures", MUTED, "--", "o"),
    ("voted_accuracy", "vote, all pictures", BLUE, "-", "o"),
    ("kept_accuracy", "vote, kept pictures", GREEN, "-", "s"),
    ("kept_prompt_accuracy", "prompt, kept pictures", ORANGE, "--", "s"),
    ("dropped_accuracy", "vote, dropped pictures", VERMILLION, ":", "v"),
)


def _line(axis: Any, rows: Sequence[Row], keys: Sequence[str], *, scale: float = 100, **look: Any) -> Any:
    """A line of the values of a (nested) key, times `scale`; None where there are none."""
    x, y = series(rows, *keys)
    if not x:
        return None
    (line,) = axis.plot(x, np.multiply(y, scale), **{"linewidth": 2, "markersize": 4, **look})
    return line


def curves(rows: Sequence[Row], path: Target, *, clients: Mapping[str, Sequence[str]] | None = None) -> None:
    """Every score that a run has, over rounds: the mean as a thick line, each client's own as a thin one.

    What each kind of data can do is another picture: `stream_curves`.

    Args:
        rows: lines of `metrics.jsonl`.
        path: the PNG to write.
        clients: names by modality; by default a client's name begins with its modality.
    """
    present = [score for score in TOLD if score.key not in KIND_SCORES and series(rows, score.key)[0]]
    figure, axes = panels(len(present))
    thin = False
    names = dict.fromkeys(name for row in rows for name in row.get("per_client") or ())
    for axis, score in zip(axes, present):
        look: dict[str, Any] = {"color": COLOURS[score.key], "scale": 1}
        for name in names:
            if client_score(end_of(name, clients or {})) == score.key:
                thin |= _line(axis, rows, ("per_client", name), alpha=0.3, linewidth=1.1, **look) is not None
        x, values = _line(axis, rows, (score.key,), linewidth=2.4, marker="o", **look).get_data()
        axis.annotate(
            f"{values[-1]:.{score.decimals}f}",
            (x[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=COLOURS[score.key],
            annotation_clip=False,
        )
        style(axis, score.heading)
        from_least(axis, least_of(score.key))
        axis.set_xlim(x[0] - 0.05 * (x[-1] - x[0]) - 0.01, x[-1] + 0.16 * (x[-1] - x[0]) + 0.02)
    if not present:
        empty(axes[0], "no scores yet")
    if thin:
        mean = Line2D([], [], color=INK, linewidth=2.4, marker="o", markersize=4)
        one = Line2D([], [], color=INK, linewidth=1.1, alpha=0.3)
        legend_below(figure, {"mean over clients, or the server's": mean, "one client": one}, 2)
    save(figure, path)


def compare_curves(runs: Mapping[str, Sequence[Row]], path: Target) -> None:
    """The scores of several runs over rounds, one colour a run.

    Args:
        runs: the lines of `metrics.jsonl` by the name of the run.
    """
    present = [s for s in TOLD if any(series(rows, s.key)[0] for rows in runs.values())]
    figure, axes = panels(len(present))
    handles: dict[str, Any] = {}
    for axis, score in zip(axes, present):
        for number, (name, rows) in enumerate(runs.items()):
            x, y = series(rows, score.key)
            (handles[name],) = axis.plot(x, y, **line_look(number))
        style(axis, score.heading)
        axis.margins(x=0.06)
        from_least(axis, least_of(score.key))
    if present:
        legend_below(figure, handles, 3)
    else:
        empty(axes[0], "no scores yet")
    save(figure, path)


def class_curves(rows: Sequence[Row], path: Target) -> None:
    """Kept share and accuracy of the kept, of all synthetic pictures and of the worst class, over rounds.

    Args:
        rows: with `round`, `labels` as in `metrics.jsonl`, and `worst`: `kept_share` and `accuracy` of the worst class.
    """
    figure, axes = panels(2)
    for axis, key, total, title in (
        (axes[0], "kept_share", "kept_share", "Pictures kept, %"),
        (axes[1], "accuracy", "kept_accuracy", "Right labels among kept pictures, %"),
    ):
        _line(axis, rows, ("labels", total), label="all pictures", color=BLUE, marker="o", linewidth=3.6, markersize=7)
        _line(axis, rows, ("worst", key), label="worst class", color=VERMILLION, linestyle="--", marker="v")
        if not axis.lines:
            empty(axis, "no such pictures")
            continue
        style(axis, title)
        axis.set_ylim(-4, 104)
        legend(axis, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    save(figure, path)


def label_curves(rows: Sequence[Row], path: Target) -> None:
    """How true the labels of synthetic pictures are, before and after the vote; how many are kept."""
    figure, (left, right) = panels(2, height=3.2, width_ratios=(1.7, 1))
    for n, (key, name, colour, dash, marker) in enumerate(
        LABEL_LINES
    ):  # later ones thinner: of equal ones all are seen
        look: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker}
        _line(left, rows, ("labels", key), label=name, linewidth=4.6 - 0.7 * n, markersize=9 - 1.2 * n, **look)
    if left.lines:
        style(left, "True labels, % (by the judge)")
        legend(left, loc="center left", bbox_to_anchor=(1.0, 0.5))
        from_least(left)
    else:
        empty(left, "no label accuracy")
    x, y = series(rows, "labels", "kept_share")
    if x:
        bars = right.bar(x, np.multiply(y, 100), color=SKY, width=0.62)
        right.set_ylim(0, 108)
        if len(x) <= 12:
            right.bar_label(bars, fmt="%.0f", padding=2, fontsize=8.5, color=INK)
        style(right, "Pictures kept, %")
    else:
        empty(right, "no kept share")
    save(figure, path)


def bytes_plot(rows: Sequence[Row], path: Target) -> None:
    """Bytes over the wire in each round, up and down: bars as measured, the paper's formula as a line."""
    figure, axes = panels(2, height=2.7)
    sides = (("up", "Up, from all clients", BLUE), ("down", "Down, to all clients", ORANGE))
    for axis, (key, title, colour) in zip(axes, sides):
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


def stream_curves(rows: Sequence[Row], path: Target) -> None:
    """Two plots over rounds: each kind on its own beside both together, and the fused model where a kind is missing.

    Args:
        rows: lines of `metrics.jsonl`.
        path: the PNG to write.
    """
    figure, (left, right) = panels(2, height=3.6, sharey=True)
    for axis in (left, right):
        _line(axis, rows, ("server_accuracy",), label="both kinds", scale=1, color=INK, linewidth=2.6)
    for kind in kinds_of(rows):
        name, colour = KIND_NAMES[kind][0], KIND_COLOURS[kind]
        for axis, view, label, look in (
            (left, "own", f"{name}, own", {"marker": "o"}),
            (left, "probe", f"{name}, linear probe", {"linestyle": "--", "linewidth": 1.5}),
            (right, "filled", f"{name} alone, with substitute", {"marker": "o"}),
            (right, "zeros", f"{name} alone, with zeros", {"linestyle": ":"}),
        ):
            _line(axis, rows, (f"{kind}_{view}",), label=label, color=colour, scale=1, **look)
    from_least(max(left, right, key=lambda axis: axis.dataLim.y1))  # they share it
    style(left, "Accuracy of each kind on its own")
    style(right, "Accuracy of the fused model where a kind is missing")
    for axis in (left, right):
        axis.tick_params(labelleft=True)
        axis.margins(x=0.04)
        legend(axis, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    save(figure, path)
