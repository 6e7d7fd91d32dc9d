"""Plots of a comparison: each score over rounds, over bytes and over seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.comparison.measures import MEASURES, Measure
from fedloom.comparison.results import DONE, Comparison
from fedloom.reporting.scores import KIND_SCORES
from fedloom.runs.disk import explained

AXES = {
    "rounds": "round",
    "bytes": "bytes over the wire, both directions",
    "seconds": "seconds of the rounds",
}
FAR = 30.0  # a logarithmic axis where the largest end is so many times the smallest


class Line(NamedTuple):
    """The mean over seeds of one row in one column, at each round: x, y, and the standard deviation of y."""

    x: list[float]
    y: list[float]
    sd: list[float]


def lines_of(found: Comparison, column: str, score: str, axis: str) -> dict[str, Line]:
    """The lines of one panel, by row. Rounds that some seed lacks are left out, rows without the score too."""
    lines = {}
    for row in found.plan.rows:
        runs = [c["rounds"] for c in found.cells if (c["row"], c["column"]) == (row.name, column)]
        runs = [points for points in runs if points]
        line = _mean_line(runs, score, axis)
        if line.x:
            lines[row.name] = line
    return lines


def _mean_line(runs: Sequence[Sequence[Mapping[str, Any]]], score: str, axis: str) -> Line:
    from statistics import mean, stdev

    x, y, sd = [], [], []
    for points in zip(*runs):
        values = [p[score] for p in points]
        if any(v is None for v in values):
            continue
        x.append(mean(_at(p, axis) for p in points))
        y.append(mean(values))
        sd.append(stdev(values) if len(values) > 1 else 0.0)
    return Line(x, y, sd)


def _at(point: Mapping[str, Any], axis: str) -> float:
    if axis == "bytes":
        return float(point["bytes_up"] + point["bytes_down"])
    return float(point["round" if axis == "rounds" else "seconds"])


def write_plots(found: Comparison) -> dict[str, list[Path]]:
    """Write `plots/SCORE-AXIS.png` for every score that some row has; those of earlier times are removed.

    Returns:
        The pictures by score.
    """
    folder = found.path / "plots"
    with explained("make", folder):
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
    if not any(cell["state"] == DONE for cell in found.cells):
        return {}
    written: dict[str, list[Path]] = {}
    for score in found.plan.scores:
        measure = MEASURES[score]
        for axis in _axes(measure):
            panels = {c.name: lines_of(found, c.name, score, axis) for c in found.plan.columns}
            panels = {column: lines for column, lines in panels.items() if lines}
            if panels:
                path = folder / f"{score}-{axis}.png"
                draw(panels, [row.name for row in found.plan.rows], measure, axis, path)
                written.setdefault(score, []).append(path)
    return written


def _axes(measure: Measure) -> tuple[str, ...]:
    """What a score is drawn over; those of one kind of data, which are many, over rounds alone."""
    if measure.cost:
        return ()
    return tuple(AXES)[:1] if measure.key in KIND_SCORES else tuple(AXES)


def draw(
    lines_by_column: Mapping[str, Mapping[str, Line]], rows: Sequence[str], measure: Measure, axis: str, path: Path
) -> None:
    """One panel a column, one line a row: the mean over seeds in a band of one standard deviation.

    Args:
        rows: all rows of the plan, so that each has its colour in every plot.
    """
    from fedloom.reporting.canvas import clean, from_least, legend_below, panels, save
    from fedloom.reporting.lettering import columns
    from fedloom.reporting.scores import least_of

    across = min(3, len(lines_by_column))
    width, height = 7.5 if across == 1 else 10, 3.3 if across < 3 else 2.9
    longest = max(columns(clean(name, 28)) for name in rows)
    names = max(1, int(width * 13 // (longest + 10)))  # entries in a line of the legend
    figure, axes = panels(len(lines_by_column), across=across, width=width, height=height, sharey=True)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.2 * -(-len(rows) // names))
    handles: dict[str, Any] = {}
    for place, (column, lines) in zip(axes, lines_by_column.items()):
        _panel(place, lines, rows, axis, handles)
        title = measure.name + (" (lower is better)" if measure.lower_is_better else "")
        _finish(place, f"{title}, {column}" if column else title, axis, lines)
    from_least(max(axes[: len(lines_by_column)], key=lambda place: place.dataLim.y1), least_of(measure.key))  # shared
    there = {name: handles[name] for name in rows if name in handles}
    legend_below(figure, there, min(names, len(there)), limit=28)
    save(figure, path)


def _panel(place: Any, lines: Mapping[str, Line], rows: Sequence[str], axis: str, handles: dict[str, Any]) -> None:
    import numpy as np

    from fedloom.reporting.canvas import line_look

    for number, name in enumerate(rows):
        if name not in lines:
            continue
        line, look = lines[name], line_look(number)
        low, high = np.subtract(line.y, line.sd), np.add(line.y, line.sd)
        if axis == "bytes" and line.x[-1] == 0:  # nothing crosses: its end, at any number of bytes
            place.axhspan(low[-1], high[-1], color=look["color"], alpha=0.08, linewidth=0)
            drawn = place.axhline(line.y[-1], color=look["color"], linestyle=(0, (1, 1.5)), linewidth=1.8)
        else:
            place.fill_between(line.x, low, high, color=look["color"], alpha=0.15, linewidth=0)
            (drawn,) = place.plot(line.x, line.y, **look)
        handles.setdefault(name, drawn)


def _finish(place: Any, title: str, axis: str, lines: Mapping[str, Line]) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter

    from fedloom.reporting.canvas import MUTED, clean, style

    style(place, clean(title, 60), rounds=axis == "rounds")
    place.set_xlabel(AXES[axis], fontsize=8.5, color=MUTED)
    place.tick_params(labelleft=True)
    place.margins(x=0.04)
    ends = [line.x[-1] for line in lines.values() if line.x[-1] > 0]
    if axis == "rounds" or not ends:
        return
    if max(ends) > FAR * min(ends):
        firsts = [x for line in lines.values() for x in line.x if x > 0]
        place.set_xscale("symlog", linthresh=min(firsts))
        place.set_xlim(left=0)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    place.xaxis.set_major_formatter(EngFormatter(unit="B") if axis == "bytes" else plain)
    place.tick_params(axis="x", labelsize=8)
