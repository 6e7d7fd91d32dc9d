"""Tables drawn as coloured squares: the split, and the accuracy of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from fedloom.errors import BadInput
from fedloom.reporting.canvas import BLUE, DPI, GRID, INK, MUTED, SKY, Target, clean, save
from fedloom.reporting.lettering import columns
from fedloom.reporting.scores import KIND_NAMES, number

if TYPE_CHECKING:
    from fedloom.tasks import Modality

_BLUES = LinearSegmentedColormap.from_list("share", ["#eef5fb", "#b5d6ec", SKY, BLUE, "#003b63"])
_UPRIGHT = 120  # letters of all names together, beyond which they stand upright
_NUMBERED = 40  # columns up to which each square has its figure


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
    title = "Samples of each class at each client; totals at the right"
    shown = np.ma.masked_equal(table, 0)
    _draw(shown, client_names, class_names, title, path, limits=(1, table.max()), totals=table.sum(1))


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
    shares = [[number(v) for v in per_class.get(key) or ()] for key in ("server", *(f"{kind}_own" for kind in kinds))]
    table = 100 * np.array([[np.nan if v is None else v for v in row] for row in shares])
    names = class_names if len(class_names) == table.shape[1] else [str(c) for c in range(table.shape[1])]
    order = np.argsort(-np.nan_to_num(table[1] - table[-1]), kind="stable")
    first, last = KIND_NAMES[kinds[0]][0], KIND_NAMES[kinds[-1]][0]
    title = f"Accuracy of each class, %; {first} leads at the left"
    title += f", {last} at the right" if len(kinds) > 1 else ""
    rows = ["both kinds", *(f"{KIND_NAMES[kind][0]}, own" for kind in kinds)]
    shown = np.ma.masked_invalid(table[:, order])
    _draw(shown, rows, [names[i] for i in order], title, path, limits=(0, 100))


def vote_picture(
    columns_of: Mapping[str, Sequence[float | None]],
    rows: Sequence[tuple[str, str, float]],
    class_names: Sequence[str],
    path: Target,
) -> None:
    """What the vote did to each class: a row a figure, a column a class; the class least of which was kept is first.

    Counts share one scale of colours, shares are coloured from 0 to 100 %, and mean votes by the highest.

    Args:
        columns_of: C numbers by key, None for a class that has none; a list may be empty.
        rows: key, name and factor of each row.
        class_names: C names; of another number, classes are numbered.
        path: the PNG to write.
    """
    present = [(name, factor, columns_of[key]) for key, name, factor in rows if columns_of[key]]
    c = len(present[0][2])
    names = class_names if len(class_names) == c else [str(i) for i in range(c)]
    values = np.array([[np.nan if v is None else factor * v for v in held] for _, factor, held in present])
    kept = np.array([np.nan if v is None else v for v in columns_of["kept_share_classes"] or [0.0] * c])
    order = np.argsort(np.nan_to_num(kept, nan=-1.0), kind="stable")
    counts = [name in ("drawn", "voted", "kept") for name, *_ in present]
    most = np.nanmax(values[counts])
    tops = [100.0 if f == 100 else most if n else np.nanmax(v) for (_, f, _), n, v in zip(present, counts, values)]
    shades = 100 * values / np.maximum(tops, 1e-9)[:, None]
    title = "What the vote did to each class; the class least of which was kept is at the left"
    shown = np.ma.masked_invalid(shades[:, order])
    written = [
        ["" if np.isnan(v) else f"{v:.1f}" if name == "mean votes" else f"{v:.0f}" for v in held]
        for (name, *_), held in zip(present, values[:, order])
    ]
    row_names = [name for name, *_ in present]
    _draw(shown, row_names, [names[i] for i in order], title, path, limits=(0, 100), figures=written)


def _draw(
    table: Any,
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    path: Target,
    limits: tuple[float, float],
    totals: ArrayLike | None = None,
    figures: Sequence[Sequence[str]] | None = None,
) -> None:
    """Squares of a masked array (K, C), darker is more between `limits`; with the `totals` (K,) of rows beside them.

    figures: what stands in the squares, where it is not the numbers that colour them.
    """
    k, c = table.shape
    names = [clean(name, 24) for name in column_names]
    longest = max(map(columns, names))
    upright = c * longest > _UPRIGHT
    height = 0.9 + 0.32 * k + (0.066 * longest if upright else 0)
    figure = Figure(figsize=(10, height), dpi=DPI, layout="constrained", facecolor="white")
    axis = figure.subplots()
    low, high = limits
    width = 1 if c <= _NUMBERED else 0.25
    axis.pcolormesh(table, cmap=_BLUES, edgecolors=GRID, linewidth=width, vmin=low, vmax=max(high, low + 1e-9))
    if c <= _NUMBERED and k * c <= 480:
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5 if c <= 20 else 7}
        for i, j in zip(*np.nonzero(~np.ma.getmaskarray(table))):
            colour = "white" if table[i, j] > 0.55 * high else INK
            text = f"{table[i, j]:.0f}" if figures is None else figures[i][j]
            axis.text(j + 0.5, i + 0.5, text, color=colour, **look)
    axis.invert_yaxis()
    middles = np.arange(k) + 0.5
    axis.set_yticks(middles, [clean(name, 28) for name in row_names], fontsize=8.5)
    size = 8.5 if c <= 40 else 6 if c <= 60 else 4.6
    axis.set_xticks(np.arange(c) + 0.5, names, fontsize=size, rotation=90 if upright else 0)
    axis.tick_params(length=0, colors=INK)
    spines = list(axis.spines.values())
    if totals is not None:
        beside = axis.secondary_yaxis("right")
        beside.set_yticks(middles, [str(n) for n in np.asarray(totals)], fontsize=8.5)
        beside.tick_params(length=0, colors=MUTED)
        spines += beside.spines.values()
    for spine in spines:
        spine.set_visible(False)
    axis.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold")
    save(figure, path)
