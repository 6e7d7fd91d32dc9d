"""The report: one HTML page that needs nothing else, for one run or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from fedloom.errors import BadInput
from fedloom.reporting.accounts import phases
from fedloom.reporting.markup import Markup, drawn, esc, join, page, section, table
from fedloom.reporting.pictures import compare_curves
from fedloom.reporting.scores import TOLD, Score, before_after, byte_text, number, second_text, series, told
from fedloom.reporting.sections import change, rounds_done, run_name, whole_run
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
    target = Path(out) if out is not None else _default(loaded)
    if len(loaded) == 1:
        title, body = run_name(loaded[0]), whole_run(loaded[0])
    else:
        title, body = f"{len(loaded)} runs compared", _comparison(loaded)
    footer = Markup("<footer>Written by fedloom from the run folder. This page loads nothing from elsewhere.</footer>")
    with explained("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, page(title, join([body, footer])))
    return target


def _default(runs: Sequence[RunFiles]) -> Path:
    return runs[0].path / "report.html" if len(runs) == 1 else runs[0].path.parent / "comparison.html"


def _labels(runs: Sequence[RunFiles]) -> list[str]:
    """A name for each run: what it is, and its folder where that is not enough to tell runs apart."""
    names = [run_name(run) for run in runs]
    if len(set(names)) == len(names):
        return names
    names = [f"{name} ({run.path.resolve().name})" for name, run in zip(names, runs)]
    return [n if names.count(n) == 1 else f"{n} #{i + 1}" for i, n in enumerate(names)]


def _comparison(runs: Sequence[RunFiles]) -> Markup:
    names = _labels(runs)
    every = dict.fromkeys(score for run in runs for score in told(run.summary))
    shown = [s for s in every if any(before_after(s, r.summary, r.rounds)[1] is not None for r in runs)]
    plot = ""
    if any(series(run.rounds, score.key)[0] for run in runs for score in TOLD):
        lines = {name: run.rounds for name, run in zip(names, runs)}
        plot = drawn(lambda target: compare_curves(lines, target), "scores of all runs over rounds")
    details = [
        Markup(f'<details class="run"><summary>{esc(name)}</summary>{whole_run(run)}</details>')
        for name, run in zip(names, runs)
    ]
    note = (
        "After the last round, with the change since before the first. A run each: that one is above another is no "
        "evidence that its method is better; fedloom compare over several seeds is."
    )
    return join(
        [
            Markup(f"<header><h1>{len(runs)} runs compared</h1></header>"),
            section("Side by side", note, _runs_table(runs, names, shown)),
            _seeds_table(runs, shown),
            section("Over the rounds", "Means over clients.", plot),
            Markup("<h2>Each run</h2>"),
            *details,
        ]
    )


def _runs_table(runs: Sequence[RunFiles], names: Sequence[str], shown: Sequence[Score]) -> Markup:
    cells: list[list[object]] = [[name, rounds_done(run)] for name, run in zip(names, runs)]
    for score in shown:
        pairs = [before_after(score, run.summary, run.rounds) for run in runs]
        for row, (before, after) in zip(cells, pairs):
            row.append(Markup(f"{esc(score.say(after))}<br><small>{change(score, before, after)}</small>"))
    for row, run in zip(cells, runs):
        row += [
            byte_text(_sum(run, "bytes_up")),
            byte_text(_sum(run, "bytes_down")),
            second_text(sum(phases(run).values()) or None),
        ]
    head = ["Run", "Rounds", *(score.name for score in shown), "Bytes up", "Bytes down", "Time"]
    return table(head, cells, numbers=range(1, len(head)))


def _sum(run: RunFiles, key: str) -> float | None:
    known = number(run.summary.get(key))
    values = series(run.rounds, key)[1]
    return known if known is not None else sum(values) if values else None


def _seeds_table(runs: Sequence[RunFiles], shown: Sequence[Score]) -> Markup:
    """Mean and standard deviation over seeds, where some method ran with more than one on the same data."""
    groups: dict[str, list[RunFiles]] = {}
    for run in runs:
        if run.finished:
            groups.setdefault(run_name(run).rpartition(", seed ")[0] or run_name(run), []).append(run)
    if all(len(group) < 2 for group in groups.values()):
        return Markup("")
    rows = []
    for name, group in groups.items():
        row: list[object] = [name, len(group)]
        for score in shown:
            values = [v for run in group if (v := before_after(score, run.summary, run.rounds)[1]) is not None]
            spread = stdev(values) if len(values) > 1 else None
            row.append(
                score.say(mean(values) if values else None)
                + (f" ± {score.scale * spread:.2f}" if spread is not None else "")
            )
        rows.append(row)
    head = ["Method", "Seeds", *(score.name for score in shown)]
    note = "Mean and standard deviation of the runs above that share method and data, after the last round."
    return section("Over seeds", note, table(head, rows, numbers=range(1, len(head))))
