"""The page of a comparison: tables, plots, plan, cost and cells; one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from fedloom.comparison.doubts import place_text
from fedloom.comparison.grids import Entry, Grid, grids, legend
from fedloom.comparison.measures import MEASURES
from fedloom.comparison.results import Comparison
from fedloom.config.yaml_core import dump
from fedloom.reporting.markup import (
    TRUST,
    Markup,
    esc,
    figure,
    join,
    page,
    picture_file,
    section,
    table,
    warning_name,
)
from fedloom.reporting.scores import number, second_text
from fedloom.runs.disk import write_atomic

PAGE = "report.html"


def write_page(found: Comparison, plots: Mapping[str, Sequence[Path]]) -> Path:
    """Write `report.html`.

    Args:
        plots: pictures by score.
    """
    parts = [
        _head(found),
        _failures(found),
        _doubts(found),
        *(_table(found, grid) for grid in grids(found)),
        *(_plots(score, paths) for score, paths in plots.items()),
        _cost(found),
        _cells(found),
        _plan(found),
        Markup("<footer>Written by fedloom. This page loads nothing from elsewhere.</footer>"),
    ]
    path = found.path / PAGE
    write_atomic(path, page(_title(found), join(parts)))
    return path


def _title(found: Comparison) -> str:
    return found.plan.title


def _head(found: Comparison) -> Markup:
    plan = found.plan
    badge = '<span class="badge">finished</span>'
    if found.open or found.failed:
        badge = f'<span class="badge open">{"unfinished" if found.open else "with failures"}</span>'
    facts = [f"{len(plan.rows)} rows", f"{len(found.cells)} cells"]
    facts += [f"{len(plan.columns)} columns"] if len(plan.columns) > 1 else []
    facts += [f"seed{'s' * (len(plan.seeds) > 1)} {', '.join(map(str, plan.seeds))}"]
    facts += [f"fedloom {', '.join(found.tree['versions'])}"] if found.tree["versions"] else []
    note = f"<p>{esc(plan.note)}</p>" if plan.note else ""
    if len(found.tree["versions"]) > 1:
        note += '<p class="down">The cells were run by different versions of fedloom.</p>'
    return Markup(
        f'<header><h1>{esc(_title(found))} {badge}</h1><p class="sub">{esc(" · ".join(facts))}</p>{note}</header>'
    )


def _failures(found: Comparison) -> Markup:
    rows = [(c["row"], c["column"] or "–", c["seed"], c["error"]) for c in found.failed]
    note = "They are missing from every figure below. Give the same command again to try them once more."
    return section("Cells that failed", note, table(("Row", "Column", "Seed", "Reason"), rows))


def _doubts(found: Comparison) -> Markup:
    """Why scores may not mean what they seem to, and of which rows."""
    done = sum(bool(cell["scores"]) for cell in found.cells)
    rows = [
        (warning_name(w["name"], w["level"]), place_text(w, done) or "the table", w["message"], w["advice"])
        for w in found.warnings
    ]
    head = ("Warning", "Of", "What was found", "What to do")
    note = "What was found is of the first run that has it; each run's own report tells the rest."
    data = "".join(f"<li>{esc(line)}</li>" for line in found.data_notes)
    return section(TRUST, note if rows else "", table(head, rows), Markup(data and f"<h3>The data</h3><ul>{data}</ul>"))


def _table(found: Comparison, grid: Grid) -> Markup:
    return section(grid.title or "After the last round", legend(found, grid), grid_table(grid))


def grid_table(grid: Grid) -> Markup:
    """A table of figures, best values bold."""
    rows = [(name, *map(_entry, line)) for name, line in grid.lines]
    return table(["", *grid.head], rows, numbers=range(1, len(grid.head) + 1))


def _entry(entry: Entry) -> Markup:
    text = Markup(f"<b>{esc(entry.whole)}</b>") if entry.best else esc(entry.whole)
    return Markup(f"{text}<br><small>{esc(entry.difference)}</small>") if entry.difference else text


def _plots(score: str, paths: Sequence[Path]) -> Markup:
    measure = MEASURES[score]
    pictures = [figure(picture_file(p, f"{measure.name} over {p.stem.rpartition('-')[2]}"), _over(p)) for p in paths]
    note = f"{measure.note[:1].upper()}{measure.note[1:]}. Mean over seeds, in a band of one standard deviation."
    return section(f"{measure.name}, round by round", note, *pictures)


def _over(path: Path) -> str:
    axis = path.stem.rpartition("-")[2]
    return {"bytes": "Over bytes; dotted: nothing crosses the wire"}.get(axis, f"Over {axis}")


def _cost(found: Comparison) -> Markup:
    cost = found.cost
    rows = [
        ("The comparison as a whole, by the clock", second_text(cost["total_seconds"])),
        (f"{cost['runs']} runs, added up", second_text(cost["cells_seconds"])),
        ("of these, set-up", second_text(cost["cells_setup_seconds"])),
        ("in it, pretraining", second_text(cost["cells_pretraining_seconds"])),
        ("in it, clients and their warm start", second_text(cost["cells_warm_start_seconds"])),
        ("processor time of the runs", second_text(cost["cells_cpu_seconds"])),
    ]
    note = "What cells share is made by the cell that comes first; the others find it in the cache."
    return section("Time", note, table(("", "Time"), rows, numbers=(1,)))


def _cells(found: Comparison) -> Markup:
    columns = len(found.plan.columns) > 1
    rows = []
    for cell in found.cells:
        place = str(cell["folder"])
        link = Markup(f'<a href="{esc(quote(place))}/">{esc(Path(place).name)}</a>')
        row = [cell["row"], *([cell["column"]] if columns else []), cell["seed"], cell["state"]]
        for score in found.plan.scores:
            value = number((cell["scores"].get(score) or {}).get("after"))
            row.append("" if value is None else f"{value:.{MEASURES[score].decimals}f}")
        rows.append((*row, second_text(cell["seconds"]), link))
    head = ["Row", *(["Column"] if columns else []), "Seed", "State"]
    names = [MEASURES[score].name for score in found.plan.scores]
    start = len(head)
    head += [*names, "Time", "Run"]
    content = table(head, rows, numbers=range(start, len(head) - 1))
    return section(
        "Cells",
        "Each is a run's folder; `fedloom report FOLDER` shows it.",
        Markup(f"<details><summary>{len(rows)} cells</summary>{content}</details>"),
    )


def _plan(found: Comparison) -> Markup:
    text = dump(found.tree["plan"])
    return section(
        "Plan",
        "Each cell's whole configuration is in its folder.",
        Markup(f"<details><summary>Plan</summary><pre>{esc(text)}</pre></details>"),
    )
