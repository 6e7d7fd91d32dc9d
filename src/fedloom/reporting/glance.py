"""A run at a glance: a few lines where it is printed, its scores and pictures in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.errors import FedloomError
from fedloom.reporting.health import run_warnings
from fedloom.reporting.pages import TRUST, Image, Table, notebook, picture_file
from fedloom.reporting.scores import before_after, told

if TYPE_CHECKING:
    from fedloom.runs.load import RunFiles

HEIGHT = 260  # pixels of a picture in a notebook, at most


def run_name(run: RunFiles) -> str:
    """`fedmmkt on flora, seed 0`; from the configuration alone, and what a damaged one lacks is left out."""
    data = run.config.get("data")
    name = data.get("name") if isinstance(data, Mapping) else data
    parts = [str(run.summary.get("method") or run.config.get("method", "run")), f"on {name}" if name else ""]
    seed = run.config.get("seed")
    return " ".join(p for p in parts if p) + (f", seed {seed}" if seed is not None else "")


def run_repr(run: RunFiles) -> str:
    """One line, as for lists of runs."""
    return f"<Run {run_name(run)}: {run.path}>"


def _state(run: RunFiles) -> str:
    done = max((int(row.get("round", 0)) for row in run.rounds), default=None)
    if run.finished:
        return f"finished, {done or 0} round{'s' * (done != 1)}"
    wanted = run.config.get("rounds", "?")
    return "not scored yet" if done is None else f"unfinished, round {done} of {wanted}"


def _scores(run: RunFiles) -> list[tuple[str, str, str, str]]:
    """Name, before, after and change of each score that there is."""
    found = []
    for score in told(run.summary):
        before, after = before_after(score, run.summary, run.rounds)
        if before is not None or after is not None:
            found.append((score.name, score.say(before), score.say(after), score.say_change(before, after)))
    return found


def run_text(run: RunFiles) -> str:
    """Method, data, scores, warnings by name, and the folder: a line each."""
    try:
        scores, warnings = _scores(run), [w.name for w in run_warnings(run)]
        lines = [f"{run_name(run)}: {_state(run)}"]
    except FedloomError as error:
        return f"{run_name(run)}: cannot be read: {error}\nfolder {run.path}"
    width = max((len(name) for name, *_ in scores), default=0)
    lines += [f"  {name:<{width}}  {a:>7} → {b:>7}  {change}" for name, a, b, change in scores]
    if warnings:
        lines.append(f"{TRUST.lower()}: {', '.join(warnings)} (see .warnings)")
    return "\n".join([*lines, f"folder {run.path}"])


def run_html(run: RunFiles) -> str:
    """The same, with the newest pictures inside; for a notebook."""
    try:
        return notebook(
            run_name(run),
            f": {_state(run)}",
            tables=[Table(("Score", "Before", "After", "Change"), _scores(run))],
            lines=[f"{w.name}: {w.message}. {w.advice}" for w in run_warnings(run)],
            pictures=[*_newest("Samples", run.samples), *_newest("Labels", run.label_panels)],
            folder=run.path,
        )
    except FedloomError as error:
        return notebook(run_name(run), f" cannot be read: {error}")


def _newest(name: str, paths: list[Path]) -> list[tuple[str, Image]]:
    if not paths:
        return []
    caption = f"{name} after round {int(paths[-1].stem.rpartition('_')[2])}"
    return [(caption, picture_file(paths[-1], caption, height=HEIGHT))]
