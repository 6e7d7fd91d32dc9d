"""A comparison at a glance: its tables where it is printed, tables and the first plot in a notebook."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from fedloom.reporting.glance import HEIGHT
from fedloom.reporting.pages import TRUST, notebook, picture_file

if TYPE_CHECKING:
    from fedloom.comparison.results import Comparison

WIDTH = 100  # columns of what is printed


def comparison_repr(found: Comparison) -> str:
    """One line."""
    return f"<Comparison {_name(found)}: {found.path}>"


def _name(found: Comparison) -> str:
    return str(found.plan.title or found.tree.get("name", ""))


def _state(found: Comparison) -> str:
    cells = found.cells
    parts = [f"{len(found.plan.rows)} rows, {len(found.plan.seeds)} seeds, {len(cells)} runs"]
    parts += [f"{n} {what}" for n, what in ((len(found.failed), "failed"), (len(found.open), "not done yet")) if n]
    return ", ".join(parts)


def comparison_text(found: Comparison) -> str:
    """What it is, its tables, warnings by name, and the folder."""
    from rich.console import Console

    from fedloom.comparison.tables import shown

    buffer = StringIO()
    screen = Console(file=buffer, width=WIDTH, color_system=None, highlight=False)
    for part in shown(found, WIDTH):
        screen.print(part)
    title = _name(found)
    lines = [f"{title}: {_state(found)}", *buffer.getvalue().strip("\n").splitlines()]
    lines = [line.rstrip() for line in lines if line.strip() not in ("", title)]
    if found.warnings:
        names = dict.fromkeys(w["name"] for w in found.warnings)
        lines.append(f"{TRUST.lower()}: {', '.join(names)} (see .warnings)")
    return "\n".join([*lines, f"folder {found.path}"])


def comparison_html(found: Comparison) -> str:
    """The same with the first plot; for a notebook."""
    from fedloom.comparison.grids import grids
    from fedloom.comparison.page import grid_table

    folder = found.path / "plots"
    plots = [path for score in found.plan.scores for path in sorted(folder.glob(f"{score}-rounds*.png"))]
    return notebook(
        _name(found),
        f": {_state(found)}",
        tables=[grid_table(found, grid) for grid in grids(found)],
        lines=list(dict.fromkeys(f"{w['name']}: {w['message']}. {w['advice']}" for w in found.warnings)),
        pictures=[("", picture_file(path, path.stem, height=HEIGHT)) for path in plots[:1]],
        folder=found.path,
    )
