"""The page of a comparison: tables, plots, plan, cost and cells; one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fedloom.comparison.doubts import place_text
from fedloom.comparison.grids import Grid, GridEntry, grids, legend
from fedloom.comparison.measures import MEASURES
from fedloom.config.yaml_core import dump
from fedloom.formatting import second_text
from fedloom.reporting.pages import Cell, Table, picture_file, render, warning_name
from fedloom.reporting.scores import number
from fedloom.runs.disk import write_atomic

if TYPE_CHECKING:
    from fedloom.comparison.results import Comparison

PAGE = "report.html"
OVER = {"bytes": "Over bytes; dotted: nothing crosses the wire"}  # captions of plots that say more than their axis
COST = {  # of `Comparison.cost`
    "total_seconds": "The comparison as a whole, by the clock",
    "cells_seconds": "{runs} runs, added up",
    "cells_setup_seconds": "of these, set-up",
    "cells_pretraining_seconds": "in it, pretraining",
    "cells_warm_start_seconds": "in it, clients and their warm start",
    "cells_cpu_seconds": "processor time of the runs",
}


def write_page(found: Comparison, plots: Mapping[str, Sequence[Path]]) -> Path:
    """Write `report.html`.

    Args:
        plots: pictures by score.
    """
    plan, cost = found.plan, found.cost
    failures = [(c["row"], c["column"] or "–", c["seed"], c["error"]) for c in found.failed]
    text = render(
        "comparison.html",
        title=plan.title,
        state="unfinished" if found.open else "with failures" if found.failed else "finished",
        facts=_facts(found),
        note=plan.note,
        versions=found.tree["versions"],
        failures=Table(("Row", "Column", "Seed", "Reason"), failures),
        warnings=_doubts(found),
        data_notes=found.data_notes,
        tables=[grid_table(found, grid) for grid in grids(found)],
        plots=[_plots(score, paths) for score, paths in plots.items()],
        cost=Table(("", "Time"), [(name.format_map(cost), second_text(cost[key])) for key, name in COST.items()], (1,)),
        cells=_cells(found),
        plan=dump(found.tree["plan"]),
    )
    path = found.path / PAGE
    write_atomic(path, text)
    return path


def _facts(found: Comparison) -> list[str]:
    plan, versions = found.plan, found.tree["versions"]
    facts = [f"{len(plan.rows)} rows", f"{len(found.cells)} cells"]
    facts += [f"{len(plan.columns)} columns"] if len(plan.columns) > 1 else []
    facts += [f"seed{'s' * (len(plan.seeds) > 1)} {', '.join(map(str, plan.seeds))}"]
    return [*facts, f"fedloom {', '.join(versions)}"] if versions else facts


def _doubts(found: Comparison) -> Table:
    """Why scores may not mean what they seem to, and of which rows."""
    done = sum(bool(cell["scores"]) for cell in found.cells)
    rows = [
        (warning_name(w["name"], w["level"]), place_text(w, done) or "the table", w["message"], w["advice"])
        for w in found.warnings
    ]
    return Table(("Warning", "Of", "What was found", "What to do"), rows)


def grid_table(found: Comparison, grid: Grid) -> Table:
    """A table of figures with its legend, best values bold."""
    rows = [(name, *map(_entry, line)) for name, line in grid.lines]
    numbers = range(1, len(grid.head) + 1)
    return Table(["", *grid.head], rows, numbers, title=grid.title, note=legend(found, grid))


def _entry(entry: GridEntry) -> Cell:
    return Cell(entry.whole, bold=entry.best, small=Cell(entry.difference) if entry.difference else None)


def _plots(score: str, paths: Sequence[Path]) -> dict[str, Any]:
    measure, pictures = MEASURES[score], []
    for path in paths:
        axis = path.stem.rpartition("-")[2]
        pictures.append((OVER.get(axis, f"Over {axis}"), picture_file(path, f"{measure.name} over {axis}")))
    return {"name": measure.name, "note": measure.note[:1].upper() + measure.note[1:], "pictures": pictures}


def _cells(found: Comparison) -> Table:
    scores = [MEASURES[score] for score in found.plan.scores]
    column = ["column"] if len(found.plan.columns) > 1 else []
    rows = []
    for cell in found.cells:
        place = str(cell["folder"])
        values = [number((cell["scores"].get(m.key) or {}).get("after")) for m in scores]
        texts = ["" if value is None else f"{value:.{m.decimals}f}" for m, value in zip(scores, values)]
        facts = [cell[key] for key in ("row", *column, "seed", "state")]
        rows.append((*facts, *texts, second_text(cell["seconds"]), Cell(Path(place).name, href=f"{quote(place)}/")))
    head = ["Row", *(["Column"] if column else []), "Seed", "State", *(m.name for m in scores), "Time", "Run"]
    return Table(head, rows, numbers=range(3 + len(column), len(head) - 1))
