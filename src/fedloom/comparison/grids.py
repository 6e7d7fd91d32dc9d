"""The tables of a comparison as text in cells, for whatever writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedloom.comparison.measures import MEASURES, TO_TARGET, Measure
from fedloom.comparison.statistics import p_text

if TYPE_CHECKING:
    from fedloom.comparison.results import Comparison

NONE = "–"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


@dataclass(frozen=True)
class GridEntry:
    """One cell of a table: `0.712 ± 0.013`, and beneath it `+0.031 [+0.010, +0.052], p = 0.012`.

    short: seeds that it has, where fewer than planned.
    """

    text: str = ""
    difference: str = ""
    best: bool = False
    short: int | None = None

    @property
    def whole(self) -> str:
        """The text, with n where seeds are missing."""
        return f"{self.text} (n = {self.short})" if self.short else self.text


@dataclass(frozen=True)
class Grid:
    """One table: a line a row of the plan."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, tuple[GridEntry, ...]], ...]
    reference: str | None  # the row that differences are to, if any is shown


def grids(found: Comparison) -> list[Grid]:
    """One table of all scores where there is one column; else a table a score, with the plan's columns."""
    plan, entries = found.plan, _indexed(found)
    shown = [MEASURES[score] for score in plan.scores if _has_any(entries, score)]
    if len(plan.columns) == 1:
        column = plan.columns[0].name
        across = [(column, measure) for measure in shown]
        return [_grid(found, column, across, entries, by_score=True)] if across else []
    out = []
    for m in shown:
        across = [(c.name, m) for c in plan.columns if _has_any(entries, m.key, c.name)]
        out.append(_grid(found, m.name, across, entries, by_score=False))
    return out


Index = Mapping[tuple[str, str, str], Mapping[str, Any]]


def _indexed(found: Comparison) -> Index:
    return {(e["row"], e["column"], e["score"]): e for e in found.tree["table"]}


def _has_any(entries: Index, score: str, column: str | None = None) -> bool:
    """Whether any row has the score (in that column), or may have it when it is done."""
    there = [e for e in entries.values() if e["score"] == score and column in (None, e["column"])]
    return any(e["applies"] is not False for e in there)


def _grid(
    found: Comparison,
    title: str,
    across: Sequence[tuple[str, Measure]],
    entries: Index,
    by_score: bool,
) -> Grid:
    rows = [row.name for row in found.plan.rows]
    lines: dict[str, list[GridEntry]] = {name: [] for name in rows}
    head = []
    for column, measure in across:
        there = {name: e for name in rows if (e := entries.get((name, column, measure.key))) is not None}
        unit, suffix = _unit(measure, there.values())
        label = measure.name if by_score else column
        head.append(f"{label} ({suffix})" if suffix and by_score else label)
        for name in rows:
            entry = _entry(there.get(name), measure, unit)
            lines[name].append(
                entry if by_score or not suffix else _with_unit(entry, suffix)  # units differ between columns
            )
    differs = any(entry.difference for line in lines.values() for entry in line)
    return Grid(
        title,
        tuple(head),
        # A row that has none of these scores is left out.
        tuple((name, tuple(line)) for name, line in lines.items() if any(entry.text for entry in line)),
        found.plan.reference if differs else None,
    )


def _with_unit(entry: GridEntry, suffix: str) -> GridEntry:
    text = f"{entry.text} {suffix}" if entry.text not in ("", NONE) else entry.text
    return GridEntry(text, entry.difference, entry.best, entry.short)


def _unit(measure: Measure, entries: Any) -> tuple[float, str]:
    """What values are divided by, and the name of that unit; bytes by the size of the largest."""
    if not measure.key.startswith("bytes"):
        return 1.0, ""
    largest = max((e["mean"] or 0.0 for e in entries), default=0.0)
    return next((u for u in _UNITS if largest >= u[0]), _UNITS[-1])


def _entry(entry: Mapping[str, Any] | None, measure: Measure, unit: float) -> GridEntry:
    if entry is None or entry["applies"] is False:
        return GridEntry()
    if entry["mean"] is None:
        return GridEntry(NONE)
    places = measure.decimals
    text = f"{entry['mean'] / unit:.{places}f}"
    if entry["sd"] is not None and not (measure.cost and entry["sd"] == 0):
        text += f" ± {entry['sd'] / unit:.{places}f}"
    short = entry["n"] if entry["n"] < entry["planned"] else None
    gap = "" if measure.cost else difference_text(entry["difference"], places)
    return GridEntry(text, gap, entry.get("best", False), short)


def difference_text(difference: Mapping[str, Any] | None, places: int) -> str:
    """`+0.031 [+0.010, +0.052], p = 0.012`, p corrected; the difference alone for one seed; '' for none."""
    if not difference or difference["mean"] is None:
        return ""
    text = f"{difference['mean']:+.{places}f}"
    if difference["low"] is not None:
        text += f" [{difference['low']:+.{places}f}, {difference['high']:+.{places}f}]"
    if p := p_text(difference.get("p_holm")):
        text += f", {p}"
    return text.replace("-", "−")


def _winners(found: Comparison, grid: Grid) -> str:
    """What bold means, and why nothing is where nothing is."""
    scored = any(m.name in (grid.title, *grid.head) and not m.cost for m in MEASURES.values())
    if len(grid.lines) < 2 or not scored:
        return ""
    if len(found.plan.seeds) < 2:
        return " With one seed nothing shows that a row is better than another."
    beyond = "than every other row of its column, by two-sided paired t-tests at 5 % corrected for their number (Holm)"
    if any(entry.best for _, line in grid.lines for entry in line):
        return f" Bold: better {beyond}."
    return f" No row is better {beyond}."


def legend(found: Comparison, grid: Grid) -> str:
    """What the figures of a table are, in a sentence or two."""
    n = len(found.plan.seeds)
    text = f"Mean ± standard deviation over n = {n} seeds." if n > 1 else f"Seed {found.plan.seeds[0]}."
    if grid.reference is not None:
        text += f" Second figure: the difference to {grid.reference}, seed by seed"
        tests = (
            ", with its 95 % t-interval and the p of a two-sided t-test, corrected over a score's differences (Holm)."
        )
        text += tests if n > 1 else "."
    text += _winners(found, grid)
    target, to_target = found.plan.target, MEASURES[TO_TARGET].name
    speaks = to_target in (grid.title, *grid.head)
    if target is not None and speaks:
        sign = "≤" if MEASURES[target.score].lower_is_better else "≥"
        text += f" {to_target}: until {MEASURES[target.score].name} {sign} {target.value:g}, over seeds that get there."
    if any(entry.text == NONE for _, line in grid.lines for entry in line):
        text += f" {NONE}: failed{', never there' if speaks else ''} or not run yet."
    return text
