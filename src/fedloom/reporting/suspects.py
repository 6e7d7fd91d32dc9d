"""The report on clients whose answers are unlike the others'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.reporting.pages import Cell, Table
from fedloom.reporting.scores import number
from fedloom.runs import RunFiles

FIGURES = ("norm", "agreement", "distance")


def suspects(run: RunFiles) -> Table:
    """Of each client the figures of its last round, in how many rounds it stood out, and by what; no rows without."""
    told = [row["suspects"] for row in run.rounds if isinstance(row.get("suspects"), Mapping)]
    by_client: dict[str, list[Mapping[str, Any]]] = {}
    for each in told:
        for name, standing in each.items():
            if isinstance(standing, Mapping):
                by_client.setdefault(str(name), []).append(standing)
    rows = []
    for name in sorted(by_client):
        heard = [s for s in by_client[name] if s.get("left_out") is not True]
        marks = [_marks(s) for s in heard]
        odd = sum(map(bool, marks))
        last = heard[-1] if heard else {}
        figures = ["–" if (value := number(last.get(key))) is None else f"{value:.3g}" for key in FIGURES]
        why = ", ".join(key for key in FIGURES if any(key in m for m in marks))
        out = f"{why}; left out" if len(heard) < len(by_client[name]) else why
        rows.append((name, *figures, Cell(f"{odd} of {len(heard)}", "caution" if odd else ""), out))
    head = ("Client", "Norm", "Agreement", "Distance", "Rounds it stood out", "By")
    return Table(head, rows, numbers=(1, 2, 3, 4))


def _marks(standing: Mapping[str, Any]) -> list[str]:
    found = standing.get("stands_out")
    return [str(mark) for mark in found] if isinstance(found, list | tuple) else []
