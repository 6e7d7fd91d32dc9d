"""A comparison as the page shows it: its runs as they go on, and its tables once they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloom.comparison.grids import grids
from fedloom.comparison.page import grid_table
from fedloom.comparison.plan import ComparisonPlan
from fedloom.comparison.results import FILE, Comparison, load_comparison
from fedloom.comparison.session import ComparisonOrder, read_order
from fedloom.watch.files import Mark, is_at_work, log_end, mark_of
from fedloom.watch.folder_watch import RunList, is_done, runs_table
from fedloom.watch.views import View, alerts, section, table


class ComparisonWatch:
    """One comparison's folder, looked at again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.order: ComparisonOrder = read_order(path)
        self.cells = Path(self.order.cells) if self.order.cells is not None else path / "cells"
        self.runs = RunList(self.cells)

    def mark(self) -> Mark:
        """What changes when the view does."""
        files = mark_of(*(self.path / name for name in ("plan.json", FILE, "log.txt")))
        return *files, self.runs.mark(), is_at_work(self.path / ".lock")

    def view(self) -> View:
        """Everything that the page shows."""
        plan, entries = self.order.plan, self.runs.entries()
        found = load_comparison(self.path) if (self.path / FILE).is_file() else None
        done = sum(map(is_done, entries))
        seeds = ", ".join(map(str, plan.seeds))
        return {
            "title": plan.title or self.path.name,
            "state": self._state(found),
            "facts": [f"{len(plan.rows)} rows", f"seed{'s' * (len(plan.seeds) > 1)} {seeds}", f"{done} runs done"],
            "folder": str(self.path),
            "progress": {"done": min(done, cells(plan)), "planned": cells(plan), "what": "runs"},
            "alerts": alerts(found.warnings) if found else [],
            "sections": [one for one in (*self._tables(found), *self._runs(entries)) if one],
        }

    def _state(self, found: Comparison | None) -> str:
        if is_at_work(self.path / ".lock"):
            return "running"
        if found is None or found.open:
            return "stopped"
        return "with failures" if found.failed else "finished"

    def _tables(self, found: Comparison | None) -> list[View | None]:
        if found is None:
            return []
        failed = [f"{c['row']}, seed {c['seed']}: {c['error']}" for c in found.failed]
        made = [(grid_table(found, grid)) for grid in grids(found)]
        return [
            section("Failed", "", lines=failed),
            *(section(one.title or "Scores", str(one.note), table=table(one)) for one in made),
        ]

    def _runs(self, entries: list[dict[str, Any]]) -> list[View | None]:
        inside = self.cells.resolve().is_relative_to(self.path.resolve())
        below = self.cells.resolve().relative_to(self.path.resolve()).as_posix() if inside else ""
        made = table(runs_table(entries, below))
        if made and not inside:  # of a folder that this page may not show
            made["rows"] = [[row[0]["text"], *row[1:]] for row in made["rows"]]
        log = log_end(self.path / "log.txt")
        return [section("Runs", "", table=made), section("Not listed", "", lines=self.runs.broken),
                section("Log", "", lines=log)]  # fmt: skip


def cells(plan: ComparisonPlan) -> int:
    """Runs that are planned, where no two rows are one configuration."""
    return len(plan.seeds) * sum(plan.has(row, column) for row in plan.rows for column in plan.columns)
