"""Figures of a study with a grid: the gains of its main arm as heat maps, or its scores along an axis."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from evidence.maps import gains
from evidence.studies import AT, cells
from evidence.tables import NONE, Kept
from fedloom.comparison.statistics import ABOVE, BELOW, spread
from fedloom.errors import BadInput


def draw_map(found: Kept, path: Path) -> str:
    """Draws the gains, and says where to.

    The first axis of the grid goes down, the second to the right, others make panels; a score a row of panels. A cell
    has the mean difference over paired seeds; a star where it is shown (Holm over all), NONE where there are no rows.

    Raises:
        BadInput: the study has no map, or its grid fewer than two axes.
    """
    from matplotlib.figure import Figure

    study = found.study
    if study.map is None or len(study.grid) < 2:
        raise BadInput(f"study {study.name}: has no map; expected `map` and a `grid` of two axes or more")
    (_, rows), (_, columns), *others = ((axis, list(values)) for axis, values in study.grid.items())
    panels = [dict(zip([a for a, _ in others], cell)) for cell in itertools.product(*(v for _, v in others))]
    made = gains(found)
    wide, high = len(panels), len(study.map.scores)
    size = ((0.9 * len(columns) + 1.2) * wide + 1, (0.6 * len(rows) + 1.1) * high + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False)
    for line, score in zip(axes, study.map.scores):
        by_place = {tuple(cell.values()): made[score, name] for name, cell in cells(study.grid).items()}
        reach = max((abs(d["mean"]) for d in by_place.values() if d["n"]), default=0.0) or 0.01
        drawn = [_heat(ax, by_place, list(study.grid.items()), panel, reach) for ax, panel in zip(line, panels)]
        label = f"{study.scores[score]}: {study.main}\nminus {study.map.reference}"
        figure.colorbar(drawn[-1], ax=list(line), label=label)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=130)
    there = {cell for (_, cell), d in made.items() if d["n"]}
    return f"{path}: {len(there)} of {len(cells(study.grid))} cells. {found.note}"


def _heat(ax: Any, by_place: Any, grid: list[Any], panel: dict[str, str], reach: float) -> Any:
    """One panel: its cells, with the gain in each."""
    (down, rows), (right, columns) = grid[:2]
    there = [[by_place[(row, column, *panel.values())] for column in columns] for row in rows]
    means = [[d["mean"] if d["n"] else float("nan") for d in line] for line in there]
    drawn = ax.imshow(means, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for (y, line), x in itertools.product(enumerate(there), range(len(columns))):
        dark = abs(line[x]["mean"] or 0) > 0.6 * reach
        ax.text(x, y, _text(line[x]), ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel(right)
    ax.set_ylabel(down)
    ax.set_title(", ".join(f"{axis} {value}" for axis, value in panel.items()), fontsize=9)
    return drawn


def draw_lines(found: Kept, path: Path) -> str:
    """Draws the main arm's scores, and says where to: a panel a score, the last axis to the right, the other a line.

    Means over seeds, with standard deviations as bars.

    Raises:
        BadInput: the study has no `lines`, or its grid other than two axes.
    """
    from matplotlib.figure import Figure

    study = found.study
    if len(study.grid) != 2 or not study.lines:
        raise BadInput(
            f"study {study.name}: has no figure; expected `map` and a `grid`, or `lines` and a `grid` of two axes"
        )
    (line, lines), (right, points) = ((axis, list(values)) for axis, values in study.grid.items())
    figure = Figure(figsize=(3.0 * len(study.lines), 2.9), layout="constrained")
    axes = figure.subplots(1, len(study.lines), squeeze=False)[0]
    drawn = 0
    for ax, (score, heading) in zip(axes, study.lines.items()):
        for value in lines:
            spreads = [spread(found.values(f"{study.main}{AT}{line}={value} {right}={x}", score)) for x in points]
            there = [(i, s["mean"], s["sd"] or 0.0) for i, s in enumerate(spreads) if s["n"]]
            drawn += len(there)
            if there:
                x, means, bars = zip(*there)
                ax.errorbar(x, means, bars, marker="o", capsize=3, label=f"{line} {value}")
        ax.set_xticks(range(len(points)), points)
        ax.set_xlabel(right)
        ax.set_ylabel(heading)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=130)
    return f"{path}: {drawn} of {len(lines) * len(points) * len(study.lines)} points. {found.note}"


def _text(gain: dict[str, Any]) -> str:
    """`+0.031*`."""
    if not gain["n"]:
        return NONE
    return f"{gain['mean']:+.3f}" + "*" * (gain.get("verdict") in (ABOVE, BELOW))
