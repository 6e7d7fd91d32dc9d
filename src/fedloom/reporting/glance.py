"""A run at a glance: a few lines where it is printed, its scores and pictures in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedloom.errors import FedloomError
from fedloom.reporting.health import run_warnings
from fedloom.reporting.markup import TRUST, Markup, esc, figure, join, picture_file, table
from fedloom.reporting.scores import before_after, told

if TYPE_CHECKING:
    from fedloom.runs.load import RunFiles

HEIGHT = 260  # pixels of a picture in a notebook, at most


def run_name(run: RunFiles) -> str:
    """`fedmmkt on flora, seed 0`; what a damaged configuration lacks is left out."""
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
            change = score.say_change(before, after)
            found.append((score.name, score.say(before), score.say(after), change))
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
        scores, state = _scores(run), _state(run)
        doubts = [f"{w.name}: {w.message}. {w.advice}" for w in run_warnings(run)]
        pictures = [_newest(run, kind) for kind in ("samples", "label_panels")]
    except FedloomError as error:
        return Markup(f"<p><b>{esc(run_name(run))}</b> cannot be read: {esc(error)}</p>")
    return join(
        [
            Markup(f"<p><b>{esc(run_name(run))}</b>: {esc(state)}</p>"),
            table(("Score", "Before", "After", "Change"), scores),
            listed(TRUST, doubts),
            *pictures,
            Markup(f"<p>folder <code>{esc(run.path)}</code></p>"),
        ]
    )


def listed(title: str, lines: list[str]) -> Markup:
    """Lines under a title, nothing when there are none."""
    if not lines:
        return Markup("")
    items = "".join(f"<li>{esc(line)}</li>" for line in lines)
    return Markup(f"<p><b>{esc(title)}</b></p><ul>{items}</ul>")


def _newest(run: RunFiles, kind: str) -> Markup:
    paths = run.samples if kind == "samples" else run.label_panels
    if not paths:
        return Markup("")
    name = "Samples" if kind == "samples" else "Labels"
    caption = f"{name} after round {int(paths[-1].stem.rpartition('_')[2])}"
    return figure(picture_file(paths[-1], caption, height=HEIGHT), caption)
