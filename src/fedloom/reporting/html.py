"""The report: one HTML page that needs nothing else, for one run or several side by side."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fedloom.errors import BadInput
from fedloom.formatting import byte_text, second_text
from fedloom.reporting.accounts import phases
from fedloom.reporting.audits import compared_table
from fedloom.reporting.heads import change, rounds_done, run_name
from fedloom.reporting.pages import Cell, Table, drawn, render
from fedloom.reporting.plots import compare_curves
from fedloom.reporting.scores import TOLD, Score, before_after, number, series, told
from fedloom.reporting.sections import report_facts
from fedloom.runs import RunFiles, read_run
from fedloom.runs.disk import explained, write_atomic


def write_report(runs: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Write the report on the runs in these folders.

    Unfinished runs are reported as far as they went.

    Args:
        runs: run folders; several are compared first, then shown one by one.
        out: the page to write; by default `report.html` in the run's folder, or, for several,
            `comparison.html` beside the first.

    Returns:
        The path of the page.

    Raises:
        BadInput: no run is given, or a folder is no run.
        FedloomError: the page cannot be written, or a file of a run is damaged; names it.
    """
    if not runs:
        raise BadInput("report: name at least one run folder.")
    loaded = [read_run(path) for path in runs]
    first = loaded[0]
    usual = first.path / "report.html" if len(loaded) == 1 else first.path.parent / "comparison.html"
    target = usual if out is None else Path(out)
    bases = [_base(run.path, target) for run in loaded]
    if len(loaded) == 1:
        text = render("run.html", title=run_name(first), run=report_facts(first, bases[0]))
    else:
        command = shlex.join(["fedloom", "report", *(str(run.path) for run in loaded)])
        text = render("runs.html", command=command, **_comparison(loaded, bases))
    with explained("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, text)
    return target


def _base(folder: Path, page: Path) -> str:
    """How links from a page to what is in a folder begin."""
    try:
        way = Path(os.path.relpath(folder.resolve(), page.resolve().parent)).as_posix()
    except ValueError:  # another drive
        way = folder.resolve().as_posix()
    return "" if way == "." else f"{way}/"


def _labels(runs: Sequence[RunFiles]) -> list[str]:
    """A name for each run: what it is, and its folder where that is not enough to tell runs apart."""
    names = [run_name(run) for run in runs]
    if len(set(names)) == len(names):
        return names
    names = [f"{name} ({run.path.resolve().name})" for name, run in zip(names, runs)]
    return [n if names.count(n) == 1 else f"{n} #{i + 1}" for i, n in enumerate(names)]


def _comparison(runs: Sequence[RunFiles], bases: Sequence[str]) -> dict[str, Any]:
    names = _labels(runs)
    every = dict.fromkeys(score for run in runs for score in told(run.summary))
    shown = [s for s in every if any(before_after(s, r.summary, r.rounds)[1] is not None for r in runs)]
    plot = None
    if any(series(run.rounds, score.key)[0] for run in runs for score in TOLD):
        lines = {name: run.rounds for name, run in zip(names, runs)}
        plot = drawn(lambda target: compare_curves(lines, target), "scores of all runs over rounds")
    return {
        "title": f"{len(runs)} runs compared",
        "side_by_side": _runs_table(runs, names, shown),
        "over_seeds": _seeds_table(runs, shown),
        "curves": plot,
        "audits": compared_table(audits)
        if (audits := [(n, r.audit) for n, r in zip(names, runs) if r.audit])
        else None,
        "runs": [(name, report_facts(run, base)) for name, run, base in zip(names, runs, bases)],
    }


def _runs_table(runs: Sequence[RunFiles], names: Sequence[str], shown: Sequence[Score]) -> Table:
    rows: list[list[object]] = []
    for name, run in zip(names, runs):
        row: list[object] = [name, rounds_done(run)]
        for score in shown:
            before, after = before_after(score, run.summary, run.rounds)
            row.append(Cell(score.say(after), small=change(score, before, after)))
        row += [byte_text(_sum(run, "bytes_up")), byte_text(_sum(run, "bytes_down"))]
        rows.append([*row, second_text(sum(phases(run).values()) or None)])
    head = ["Run", "Rounds", *(score.name for score in shown), "Bytes up", "Bytes down", "Time"]
    return Table(head, rows, numbers=range(1, len(head)))


def _sum(run: RunFiles, key: str) -> float | None:
    known = number(run.summary.get(key))
    values = series(run.rounds, key)[1]
    return known if known is not None else sum(values) if values else None


def _seeds_table(runs: Sequence[RunFiles], shown: Sequence[Score]) -> Table | None:
    """Mean and standard deviation over seeds, where some method ran with more than one on the same data."""
    groups: dict[str, list[RunFiles]] = {}
    for run in runs:
        if run.finished:
            groups.setdefault(run_name(run).rpartition(", seed ")[0] or run_name(run), []).append(run)
    if all(len(group) < 2 for group in groups.values()):
        return None
    rows = []
    for name, group in groups.items():
        row: list[object] = [name, len(group)]
        for score in shown:
            values = [v for run in group if (v := before_after(score, run.summary, run.rounds)[1]) is not None]
            spread = f" ± {stdev(values):.{score.decimals}f}" if len(values) > 1 else ""
            row.append(score.say(mean(values) if values else None) + spread)
        rows.append(row)
    head = ["Method", "Seeds", *(score.name for score in shown)]
    return Table(head, rows, numbers=range(1, len(head)))
