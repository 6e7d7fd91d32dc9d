"""A comparison from its plan to its folder: makes the plan, runs the cells that are missing, writes what they say."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedloom.comparison.cells import ComparisonCell, added_metrics, check_data, fitting_scores, make_cells
from fedloom.comparison.meter import cpu_seconds
from fedloom.comparison.plan import ComparisonPlan, read_plan, with_plan
from fedloom.comparison.pool import RUN, ComparisonPool, unique, usable_cores
from fedloom.comparison.results import FAILED, FILE, Comparison, compose, record_of
from fedloom.comparison.schedule import Schedule
from fedloom.comparison.watch import Watch
from fedloom.comparison.worker import finished
from fedloom.config.trees import nested, validate
from fedloom.errors import BadInput, FedloomError, check_list
from fedloom.references import leave_script
from fedloom.registry import DATASETS, referenced
from fedloom.runs.disk import explained, json_text, locked, read_object, write_atomic

PLAN = "plan.json"  # what --resume goes by


@dataclass(frozen=True)
class ComparisonOrder:
    """What a comparison was asked for: the plan, what lies above its configurations, and where the cells are."""

    name: str
    plan: ComparisonPlan
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    cells: str | None  # folder of all cells; None: `cells` in the comparison's own

    def tree(self) -> dict[str, Any]:
        """As it is kept on disk."""
        return {
            "name": self.name,
            "cells": self.cells,
            "values": dict(self.values),
            "overrides": list(self.overrides),
            "plan": self.plan.model_dump(mode="json"),
        }


def compare(
    methods: Sequence[Any] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    preset: str | None = None,
    plan: str | Path | Mapping[str, Any] | None = None,
    reference: str | None = None,
    scores: Sequence[str] | None = None,
    out: str | Path | None = None,
    cells: str | Path | None = None,
    resume: str | Path | None = None,
    jobs: int | None = None,
    overrides: Sequence[str] = (),
    watch: Watch | None = None,
    run: str = RUN,
    **values: Any,
) -> Comparison:
    """Run a method comparison, or go on with one: what is done is never done again, a cell that fails stops no other.

    Args:
        methods: one row each, by name, reference or as objects; with `preset` or `plan`, the rows to keep.
        seeds: default those of the plan, else 0.
        preset: a comparison that comes with fedloom.
        plan: one's own: a YAML file, or a mapping of the same keys (rows, columns, base, seeds, ...). A run's
            configuration in its place is what all `methods` are compared over.
        reference: the row that the others are paired with.
        scores: keys of `fedloom.comparison.measures.MEASURES`.
        out: the comparison's folder; default `runs/compare-NAME-DATA`.
        cells: where the runs lie; default `cells` in `out`. Comparisons that share it share runs.
        resume: folder of a comparison to go on with, instead of all of the above.
        jobs: runs at a time; default one a processor.
        overrides, values: as for `fedloom.run`, for every cell.

    Raises:
        BadInput: something given is wrong; nothing has been run.
        FedloomError: the folder cannot be written.
    """
    leave_script()
    check_list(methods=methods, seeds=seeds, scores=scores, overrides=overrides)
    if jobs is not None and jobs < 1:
        raise BadInput(f"jobs = {jobs}: allowed is 1 and above")
    if resume is not None:
        _refuse_more(methods, seeds, preset, plan, reference, scores, out, cells, overrides or None, *values.values())
        order, out = read_order(Path(resume)), resume
    else:
        of_plan = {"methods": referenced(methods), "seeds": seeds, "reference": reference, "scores": scores}
        order = _new_order(preset, referenced(plan), of_plan, referenced(values), overrides, cells)
    work = _begin(order, out, watch or Watch(), run)
    with locked(work.place / ".lock", busy=f"{work.place}: another process is at this comparison."):
        return work.do(jobs or usable_cores())


def _new_order(
    preset: str | None,
    plan: Any,
    of_plan: Mapping[str, Any],
    values: Mapping[str, Any],
    overrides: Sequence[str],
    cells: str | Path | None,
) -> ComparisonOrder:
    made = read_plan(preset=preset, file=plan, **of_plan)
    own = None if cells is None else os.path.abspath(cells)
    return ComparisonOrder(preset or _name_of(plan, made), made, nested(values), tuple(overrides), own)


def _refuse_more(*given: Any) -> None:
    """Raises BadInput where anything is given beside a comparison to resume."""
    if any(x is not None for x in given):
        raise BadInput("a comparison that is resumed has its plan: give nothing but resume and jobs")


def _begin(order: ComparisonOrder, out: str | Path | None, watch: Watch, run: str) -> _Work:
    """The work that an order is, its cells checked and its folders made. Raises: see `compare`."""
    notes: list[str] = []
    wanted = make_cells(order.plan, order.values, order.overrides, notes.append)
    data = DATASETS.label(wanted[0].config.data.name)
    title = order.plan.title or f"{order.name} on {data}"
    order = replace(order, plan=with_plan(order.plan, title=title, scores=fitting_scores(order.plan, wanted)))
    place = Path("runs") / f"compare-{order.name}-{Path(data).name}" if out is None else Path(out)
    _refuse_foreign(place)
    work = _Work(order, wanted, place, watch, run)
    check_data([cell for cell in unique(wanted) if not work.has(cell)])
    for line in notes:
        watch.filled(line)
    with explained("make", place):
        work.cells.mkdir(parents=True, exist_ok=True)
        place.mkdir(parents=True, exist_ok=True)
    return work


def _name_of(plan: str | Path | Mapping[str, Any] | None, made: ComparisonPlan) -> str:
    """What the comparison's folder is called by."""
    if plan is None:
        return "methods"
    if not isinstance(plan, Mapping):
        return Path(plan).stem
    return re.sub(r"[^\w.]+", "-", made.title.lower())[:40].strip("-.") or "plan"


def read_order(place: Path) -> ComparisonOrder:
    """What the comparison in that folder was asked for.

    Raises:
        BadInput: there is none.
    """
    tree = read_object(place / PLAN)
    if not tree:
        raise BadInput(f"{place} is no folder of a comparison: it has no {PLAN}.")
    try:
        plan: ComparisonPlan = validate(ComparisonPlan, tree["plan"])
        return ComparisonOrder(tree["name"], plan, tree["values"], tuple(tree["overrides"]), tree["cells"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"{place / PLAN} is damaged: {type(error).__name__} {error}") from None


def _refuse_foreign(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise BadInput(f"{place} is a file; a comparison needs a folder.")
    others = [p.name for p in place.iterdir() if p.name not in (".lock", "cells")] if place.is_dir() else []
    if others and PLAN not in others:
        raise BadInput(f"{place} is not empty and holds no comparison (it has {min(others)}). Name another.")


class _Work:
    """One session of work at a comparison."""

    def __init__(
        self, order: ComparisonOrder, wanted: Sequence[ComparisonCell], place: Path, watch: Watch, run: str
    ) -> None:
        self.order, self.wanted, self.place = order, wanted, place
        self.watch, self.run = watch, run
        self.cells = Path(order.cells) if order.cells is not None else place / "cells"
        self.errors: dict[str, str] = {}  # by folder
        self.ran = 0
        self.start, self.cpu_start = time.monotonic(), cpu_seconds()

    def has(self, cell: ComparisonCell) -> bool:
        """Whether the cell is done already."""
        folder = self.cells / cell.folder
        try:
            return (folder / "summary.json").is_file() and finished(folder, cell.config)
        except FedloomError:
            return False  # a worker sees to it

    def do(self, jobs: int) -> Comparison:
        """Run what is missing; write what there is, also when this is interrupted."""
        write_atomic(self.place / PLAN, json_text(self.order.tree()))
        runs = unique(self.wanted)
        missing = [cell for cell in runs if not self.has(cell)]
        jobs = min(jobs, max(1, len(missing)))
        todo = {cell.folder: cell.row for cell in missing}
        self.watch.begin(self.order.plan.title, str(self.place), len(runs), len(runs) - len(missing), todo, jobs)
        starts: list[dict[str, float]] = []
        try:
            if missing:
                log = self.place / "log.txt"
                with ComparisonPool(Schedule(missing), self.cells, jobs, log, self.watch, self.run) as pool:
                    starts = pool.starts
                    pool.work(self._finish)
        finally:
            found = self.compose(jobs, starts)
            write_outputs(found)
        return found

    def _finish(self, cell: ComparisonCell, error: str | None) -> None:
        if error is not None:
            self.errors[cell.folder] = error
        self.ran += 1
        self.watch.finish(cell, self._record(cell))

    def _record(self, cell: ComparisonCell) -> dict[str, Any]:
        target = self.order.plan.target
        try:
            return record_of(cell, self.cells, self.place, self.errors.get(cell.folder), target)
        except (FedloomError, KeyError, TypeError, ValueError) as problem:  # files that were changed by hand
            reason = f"its files cannot be read: {' '.join(str(problem).split())}"
            return record_of(cell, self.cells, self.place, reason)

    def compose(self, jobs: int, starts: Sequence[Mapping[str, float]]) -> Comparison:
        """What there is to say now."""
        try:
            before = read_object(self.place / FILE).get("cost", {}).get("sessions", [])
        except (FedloomError, AttributeError):  # it is written again below
            before = []
        session = {
            "seconds": time.monotonic() - self.start,
            "jobs": jobs,
            "cells": self.ran,
            "workers_start_cpu_seconds": sum(s["cpu_seconds"] for s in starts),
            "cpu_seconds": cpu_seconds() - self.cpu_start,  # of this process and all workers
        }
        records = [self._record(cell) for cell in self.wanted]
        sessions = [*before, session] if self.ran else before
        facts: dict[str, Any] = {"name": self.order.name, "folder_of_cells": str(self.cells)}
        if metrics := added_metrics(self.wanted):
            facts["metrics"] = metrics
        tree = compose(self.order.plan, records, sessions, **facts)
        return Comparison(self.place, tree)


def write_outputs(found: Comparison) -> None:
    """Every file of the comparison: figures, tables, plots, page."""
    from fedloom.comparison.page import write_page
    from fedloom.comparison.plots import write_plots
    from fedloom.comparison.tables import write_tables

    write_atomic(found.path / FILE, json_text(found.tree))
    write_tables(found)
    plots = write_plots(found)
    write_page(found, plots)


def failures(found: Comparison) -> list[str]:
    """A line for each cell that failed."""
    return [f"{label_of(cell)}: {cell['error']}" for cell in found.cells if cell["state"] == FAILED]


def label_of(record: Mapping[str, Any]) -> str:
    """`FedMD, 2+2, seed 1`."""
    return ", ".join(x for x in (record["row"], record["column"], f"seed {record['seed']}") if x)
