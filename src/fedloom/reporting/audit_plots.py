"""Pictures of an audit: ROC curves of membership attacks, and classes as they are and as they are guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedloom.reporting.canvas import (
    BLUE,
    GRID,
    ORANGE,
    Target,
    clean,
    legend,
    legend_below,
    line_look,
    panels,
    save,
    style,
)


def roc_curves(curves: Mapping[str, Sequence[Sequence[float]]], path: Target) -> None:
    """True over false positives of each attack, by its name; a guess is the diagonal.

    Args:
        curves: points (false positives, true positives), both 0 to 1.
    """
    figure, (axis,) = panels(1, width=6, height=4.2)
    axis.plot([0, 1], [0, 1], color=GRID, linewidth=1.5)
    lines = {}
    for number, (name, points) in enumerate(curves.items()):
        x, y = np.asarray(points, dtype=float).T
        (lines[name],) = axis.plot(x, y, **{**line_look(number), "marker": ""})
    style(axis, "Who was in the training data", rounds=False)
    axis.set_xlabel("false positives", fontsize=8.5)
    axis.set_ylabel("true positives", fontsize=8.5)
    legend_below(figure, lines, columns=min(2, len(lines)))
    save(figure, path)


def label_bars(shares: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Target) -> None:
    """Of each client the share of each class, true and as it was guessed.

    Args:
        shares: by client C true shares and C guessed ones.
    """
    figure, axes = panels(len(shares))
    for axis, (client, (truth, guessed)) in zip(axes, shares.items()):
        x = np.arange(len(truth))
        axis.bar(x - 0.2, truth, 0.4, color=BLUE, label="true")
        axis.bar(x + 0.2, guessed, 0.4, color=ORANGE, label="guessed")
        style(axis, clean(client, 30), rounds=False)
        axis.set_xlabel("class", fontsize=8.5)
    legend(axes[0])
    save(figure, path)
