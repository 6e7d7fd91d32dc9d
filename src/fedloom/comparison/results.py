"""What the cells of a comparison say: a record of each, statistics of the table, cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedloom.comparison.cells import ComparisonCell
from fedloom.comparison.doubts import cell_warnings, doubts_of
from fedloom.comparison.measures import MEASURES, TO_TARGET, before_and_after, curve
from fedloom.comparison.meter import read_cost
from fedloom.comparison.plan import ComparisonPlan, TargetScore
from fedloom.comparison.statistics import clear_best, corrected, paired, spread
from fedloom.config.trees import validate
from fedloom.errors import BadInput
from fedloom.runs.disk import read_lines, read_object

FILE = "comparison.json"
DONE, FAILED, OPEN = "done", "failed", "open"


@dataclass(frozen=True)
class Comparison:
    """A comparison, as `comparison.json` holds it; `path` is its folder."""

    path: Path
    tree: dict[str, Any]

    def __repr__(self) -> str:
        from fedloom.comparison.glance import comparison_repr

        return comparison_repr(self)

    def __str__(self) -> str:
        from fedloom.comparison.glance import comparison_text

        return comparison_text(self)

    def _repr_html_(self) -> str:
        from fedloom.comparison.glance import comparison_html

        return comparison_html(self)

    @cached_property
    def plan(self) -> ComparisonPlan:
        """Rows, columns, seeds, scores and reference."""
        plan: ComparisonPlan = validate(ComparisonPlan, self.tree["plan"])
        return plan

    @property
    def cells(self) -> list[dict[str, Any]]:
        """A record of every cell: row, column, seed, folder, state, scores, rounds, cost."""
        return list(self.tree["cells"])

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What makes it doubtful, serious things first: name, level, message, advice, and where."""
        return list(self.tree.get("warnings", ()))

    @property
    def data_notes(self) -> list[str]:
        """What was left out of the data of its runs, or looks wrong in them; each once."""
        return list(dict.fromkeys(note for cell in self.cells for note in cell.get("data_notes", ())))

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The cells that failed, each with its `error`."""
        return [cell for cell in self.cells if cell["state"] == FAILED]

    @property
    def open(self) -> list[dict[str, Any]]:
        """The cells that are not done yet; none unless the comparison was interrupted."""
        return [cell for cell in self.cells if cell["state"] == OPEN]

    @property
    def cost(self) -> dict[str, Any]:
        """Seconds of all cells, of their set-up, and of the comparison as a whole."""
        return dict(self.tree["cost"])

    def table(self, score: str) -> dict[str, dict[str, dict[str, Any]]]:
        """n, mean, sd and the paired difference to the reference of a score, as `table[row][column]`.

        Raises:
            BadInput: the comparison has no such score.
        """
        if score not in self.plan.scores:
            raise BadInput(f"this comparison has no score {score!r}, allowed: {', '.join(self.plan.scores)}")
        out: dict[str, dict[str, dict[str, Any]]] = {}
        for entry in self.tree["table"]:
            if entry["score"] == score:
                values = {k: entry[k] for k in ("n", "planned", "mean", "sd", "difference", "applies")}
                out.setdefault(entry["row"], {})[entry["column"]] = values
        return out


def load_comparison(path: Path | str) -> Comparison:
    """The comparison in a folder.

    Raises:
        BadInput: there is none.
        FedloomError: its file is damaged.
    """
    tree = read_object(Path(path) / FILE)
    if not tree:
        raise BadInput(f"{path} is no folder of a comparison: it has no {FILE}.")
    MEASURES.add(tree.get("metrics") or {})
    return Comparison(Path(path), tree)


def record_of(
    cell: ComparisonCell, cells: Path, out: Path, error: str | None = None, target: TargetScore | None = None
) -> dict[str, Any]:
    """What is to be said of a cell.

    Args:
        cells: where the cells lie.
        out: the comparison's folder, from which the cell's is named.
        error: why it failed, if it did.
        target: of the plan.
    """
    folder = cells / cell.folder
    summary = {} if error else read_object(folder / "summary.json")
    record: dict[str, Any] = {
        "row": cell.row,
        "column": cell.column,
        "seed": cell.seed,
        "method": cell.config.method,
        "folder": os.path.relpath(folder, out),
        "state": FAILED if error else DONE if summary else OPEN,
        "error": error,
        "version": summary.get("version"),
    }
    cost = read_cost(folder)
    record |= {**_cost_of(cost, summary), "scores": {}, "rounds": [], "warnings": [], "data_notes": []}
    if summary:
        rows = read_lines(folder / "metrics.jsonl")
        points = curve(rows, cost.get("rounds", {}))
        goal = (target.score, target.value) if target else None
        record |= {"scores": before_and_after(points, goal), "rounds": points}
        record["data_notes"] = list(summary.get("data_notes") or ())
        record["warnings"] = cell_warnings(cell.config.model_dump(mode="json"), rows, summary)
    return record


def _cost_of(cost: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Wall and processor seconds of a cell over all attempts, and of its set-up; None where nobody measured."""
    attempts = cost.get("attempts")
    if not attempts:
        told = summary.get("seconds") or {}
        seconds, setup = told.get("total"), told.get("setup")
        none = dict.fromkeys(("cpu_seconds", "setup_cpu_seconds", "pretraining_seconds", "warm_start_seconds"))
        return {"seconds": seconds, "setup_seconds": setup, **none}

    def stage(name: str, which: int) -> float:
        return float(sum((a.get("stages") or {}).get(name, (0.0, 0.0))[which] for a in attempts))

    return {
        "seconds": sum(a["seconds"] for a in attempts),
        "cpu_seconds": sum(a["cpu_seconds"] for a in attempts),
        "setup_seconds": stage("setup", 0),
        "setup_cpu_seconds": stage("setup", 1),
        "pretraining_seconds": stage("pretraining", 0),
        "warm_start_seconds": stage("clients", 0),
    }


def compose(
    plan: ComparisonPlan, records: Sequence[Mapping[str, Any]], sessions: Sequence[Mapping[str, Any]], **facts: Any
) -> dict[str, Any]:
    """The content of `comparison.json`.

    Args:
        records: of all cells.
        sessions: of each time that the comparison was worked at: seconds, jobs, cells done.
        facts: to stand above all.
    """
    table = table_of(plan, records)
    return {
        **facts,
        "plan": plan.model_dump(mode="json"),
        "versions": sorted({r["version"] for r in records if r["version"]}),
        "warnings": doubts_of(plan, records, table),
        "table": table,
        "cost": cost_of_all(records, sessions),
        "cells": list(records),
    }


def table_of(plan: ComparisonPlan, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each row, column and score: n, mean, sd, difference to the reference.

    `planned`: seeds that were to be run. `best`: better than every other row, beyond chance.
    `applies`: whether the row has this score at all; None while nothing of it is done. The p values of a score's
    differences, of all rows and columns, are corrected together.
    """
    entries: list[dict[str, Any]] = []
    for score in plan.scores:
        for column in plan.columns:
            reference = _values(records, plan.reference, column.name, score)
            best = _best(plan, records, column.name, score)
            for row in plan.rows:
                if not plan.has(row, column):
                    continue
                values = _values(records, row.name, column.name, score)
                has = values
                if score == TO_TARGET and plan.target is not None:  # a row that never gets there has it too
                    has = _values(records, row.name, column.name, plan.target.score)
                done = any(r["state"] == DONE and (r["row"], r["column"]) == (row.name, column.name) for r in records)
                other = plan.reference not in (None, row.name) and values and reference
                entries.append(
                    {
                        "row": row.name,
                        "column": column.name,
                        "score": score,
                        **spread(values),
                        "planned": len(plan.seeds),
                        "best": row.name == best,
                        "applies": bool(has) if done else None,
                        "difference": paired(values, reference) if other else None,
                    }
                )
        corrected(e["difference"] for e in entries if e["score"] == score and e["difference"])
    return entries


def _best(plan: ComparisonPlan, records: Sequence[Mapping[str, Any]], column: str, score: str) -> str | None:
    """The row that is clearly the best; costs have none."""
    if MEASURES[score].cost:
        return None
    rows = {row.name: _values(records, row.name, column, score) for row in plan.rows}
    return clear_best(rows, MEASURES[score].lower_is_better)


def _values(records: Sequence[Mapping[str, Any]], row: str | None, column: str, score: str) -> dict[int, float]:
    """The score after the last round, by seed."""
    return {
        int(r["seed"]): float(r["scores"][score]["after"])
        for r in records
        if (r["row"], r["column"]) == (row, column) and r["scores"] and r["scores"][score]["after"] is not None
    }


def cost_of_all(records: Sequence[Mapping[str, Any]], sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds of all cells, each folder counted once.

    Set-up is where what cells share is made: the cell that comes first pays for pretraining and warm start.
    """
    once = {r["folder"]: r for r in records}.values()

    def total(key: str) -> float:
        return float(sum(r[key] or 0.0 for r in once))

    keys = (
        *("seconds", "cpu_seconds", "setup_seconds", "setup_cpu_seconds"),
        *("pretraining_seconds", "warm_start_seconds"),
    )
    return {
        "runs": len(once),
        **{f"cells_{key}": total(key) for key in keys},
        "total_seconds": float(sum(s["seconds"] for s in sessions)),
        "sessions": [dict(s) for s in sessions],
    }
