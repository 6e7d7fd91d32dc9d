"""`fedloom compare`: methods x seeds, the fair table."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli import options
from fedloom.cli.screen import console, show, show_json
from fedloom.signals import Interrupted

if TYPE_CHECKING:
    from fedloom.comparison import Comparison
    from fedloom.comparison.watch import Watch


MethodsOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Methods, one row each; with a preset or plan, the rows to keep."),
]
SeedsOption = Annotated[str | None, typer.Option(metavar="0,1,...", help="Seeds (default: 0).")]
PresetOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A comparison that comes with fedloom, such as table-1 or smoke, with rows of its own; not a preset of "
        "`fedloom run`.",
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "--plan",
        metavar="FILE",
        help="A comparison of your own, in YAML; or a run's configuration, for all --methods.",
    ),
]
RoundsOption = Annotated[int | None, typer.Option(metavar="N", min=0, help="Number of rounds of every run.")]
ReferenceOption = Annotated[
    str | None, typer.Option(metavar="ROW", help="Show the difference of every row to this one.")
]
ScoresOption = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Columns of the table, such as image_accuracy,fid.")
]
JobsOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Parallel runs (default: one per processor).")]
OutOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The comparison's folder (default: runs/compare-NAME-DATA).")
]
CellsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the runs, which several comparisons can share.")
]
ResumeOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Resume the comparison in this folder.")]


def compare(
    methods: MethodsOption = None,
    seeds: SeedsOption = None,
    preset: PresetOption = None,
    plan: PlanOption = None,
    data: options.DataOption = None,
    root: options.RootOption = None,
    set_: options.SetOption = None,
    rounds: RoundsOption = None,
    reference: ReferenceOption = None,
    scores: ScoresOption = None,
    jobs: JobsOption = None,
    out: OutOption = None,
    cells: CellsOption = None,
    resume: ResumeOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Compare methods over seeds, on one footing.

    All rows have the same data, split, models, warm start and number of rounds. Runs go side by side, and a finished
    one is never repeated, so the same command resumes where it stopped.

    To compare methods on a preset of `fedloom run`, give --methods and a --config FILE that says
    `base: {preset: NAME}`.

    A run that fails leaves a dash in the table, and the command ends with exit code 1.

    Example: fedloom compare --methods standalone,fedmd,fedmmkt --seeds 0,1,2 --reference standalone
    """
    from fedloom.errors import FedloomError

    given: dict[str, Any] = {"methods": listed(methods), "seeds": seed_list(seeds), "preset": preset, "plan": plan}
    given |= {"reference": reference, "scores": listed(scores), "jobs": jobs, "overrides": set_ or ()}
    given |= {"out": out, "cells": cells, "resume": resume}
    own = options.given(name=data, root=None if root is None else str(root))
    found = _carry_out({**given, **options.given(rounds=rounds, data=own)}, quiet)
    conclude(found, json)
    if found.failed:
        raise FedloomError(_failures(found))


def _carry_out(given: dict[str, Any], quiet: bool) -> Comparison:
    from fedloom import comparison

    with ExitStack() as stack:
        watch = watcher(stack, quiet)
        try:
            return comparison.compare(**given, watch=watch)
        except KeyboardInterrupt:
            stack.close()
            raise Interrupted(f"interrupted. {_how_to_go_on(watch)}") from None


def listed(text: str | None) -> list[str] | None:
    """The parts of a list with commas."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def seed_list(text: str | None) -> list[int] | None:
    """Seeds with commas; `0-4` stands for five.

    Raises:
        BadInput: something else is there, or more seeds than a comparison may have.
    """
    from fedloom.comparison.plan import MOST_SEEDS
    from fedloom.errors import BadInput

    if text is None:
        return None
    seeds: list[int] = []
    for part in listed(text) or []:
        found = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", part)
        if not found:
            raise BadInput(f"--seeds {text!r}: {part!r} is not a seed, expected numbers such as 0,1,2 or 0-4")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise BadInput(f"--seeds {text!r}: {part!r} ends before it begins")
        if len(seeds) + last - first >= MOST_SEEDS:
            raise BadInput(f"--seeds {text!r}: too many seeds, allowed: at most {MOST_SEEDS:,}")
        seeds += range(first, last + 1)
    return seeds


def watcher(stack: ExitStack, quiet: bool) -> Watch:
    """What shows progress: nothing, a live view on a terminal, plain lines elsewhere."""
    from fedloom.cli.compare_live import ComparisonLines, ComparisonView
    from fedloom.comparison.watch import Watch

    screen = console(stderr=True)
    if quiet:
        return Watch()
    if screen.is_terminal:
        return stack.enter_context(ComparisonView(screen))
    return ComparisonLines(lambda line: typer.echo(line, err=True))


def _how_to_go_on(watch: Watch) -> str:
    if not watch.folder:
        return "Nothing was started: give the same command again"
    return f"What is done is kept; go on with: fedloom compare --resume {watch.folder}"


def conclude(found: Comparison, json: bool) -> None:
    """Print the tables, and where everything is."""
    from fedloom.comparison.tables import terminal

    if json:
        show_json(found.tree)
    else:
        show(*terminal(found, console().width), f"folder {found.path}", f"report {found.path / 'report.html'}")


def _failures(found: Comparison) -> str:
    """The failed cells and their reasons, in one line."""
    from fedloom.comparison.session import failures

    lines, n = failures(found), len(found.cells)
    shown = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
    return f"{len(lines)} of {n} cells failed: {shown.rstrip('.')}. Tracebacks are in {found.path / 'log.txt'}"
