"""`fedloom run`: one method on one data set, from the configuration to the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli import options
from fedloom.cli.screen import console, show, show_json
from fedloom.signals import Interrupted

DIED = 3  # the exit code of a run that is done while clients failed up to its last round

if TYPE_CHECKING:
    from fedloom.cli.live import Tracker
    from fedloom.config import Config
    from fedloom.progress import Observer
    from fedloom.results import Run


OutOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The run's folder (default: runs/METHOD-DATA-SEED).")
]
EngineOption = Annotated[str | None, typer.Option(metavar="NAME", help="Engine that carries messages: local, flower.")]
ResumeOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Resume the run in this folder.")]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(metavar="A,B,...", help="Trackers to report rounds to: tensorboard, mlflow, wandb, or one's own."),
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Show a live page of the run, as `fedloom watch` does.")]
FetchOption = Annotated[bool, typer.Option("--fetch", help="First download missing weights, as `fedloom fetch` does.")]
UngatedOption = Annotated[
    bool, typer.Option("--ungated", help="Go on where the server's models miss a gate of the configuration.")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Estimate what the run will take, and start nothing.")]
OnOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="With --plan: the accelerator to estimate times for (H200, A100)."),
]


def run(
    method: options.MethodOption = None,
    data: options.DataOption = None,
    root: options.RootOption = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    seed: options.SeedOption = None,
    rounds: options.RoundsOption = None,
    out: OutOption = None,
    overwrite: options.OverwriteOption = False,
    engine: EngineOption = None,
    resume: ResumeOption = None,
    track: TrackOption = None,
    watch: WatchOption = False,
    fetch: FetchOption = False,
    ungated: UngatedOption = False,
    retrain: options.RetrainOption = False,
    plan: PlanOption = False,
    on: OnOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Run a method and report on it.

    Without options: FedMMKT on the embedded flowers. The configuration is made of defaults, --preset, --config, the
    options here and --set; later ones win. A resumed run has its own: options given besides must agree with it.

    Example: fedloom run --method fedmmkt --data flora --seed 1 --set engine.workers=2
    """
    options.check_resume(resume, out, overwrite)
    _check_plan(plan, on, resume)
    given: dict[str, Any] = {"method": method, "data": data, "root": root, "preset": preset, "file": config}
    given |= {"overrides": _also(set_, ungated, retrain), "seed": seed, "rounds": rounds, "engine": engine}
    notes: list[str] = []
    if resume is None:
        chosen: Config | None = options.configuration(**given, notes=notes)
    else:
        chosen = options.configuration_of(resume, **given)
    if plan and chosen is not None:
        return _plan(chosen, on, json, notes)
    if fetch:
        _fetch(chosen, resume)
    with _pages(watch) as pages:
        finished = _carry_out(chosen, out, resume, overwrite, quiet, notes, _each(track), pages)
        try:
            conclude(finished, json)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted. {_without_report(finished.path)}") from None


def _each(track: list[str] | None) -> list[str]:
    """The trackers of all `--track`, each of which may have commas."""
    return [name.strip() for given in track or () for name in given.split(",") if name.strip()]


@contextmanager
def _pages(wanted: bool) -> Iterator[list[Observer]]:
    """The run's live page, if it is wanted. Raises BadInput where what serves it is not installed."""
    if not wanted:
        yield []
        return
    from fedloom.watch.process import LivePage
    from fedloom.watch.serve import require_web

    require_web()
    found = LivePage(lambda line: typer.echo(line, err=True))
    try:
        yield [found]
    finally:
        found.close()


def _plan(config: Config, on: str | None, json: bool, notes: list[str]) -> None:
    from fedloom.cli.plan import show_plan

    show_plan(config, on, json)
    options.tell(notes)


def _also(overrides: list[str] | None, ungated: bool, retrain: bool) -> list[str] | None:
    return options.retrained([*(overrides or ()), "evaluation.ungated=true"] if ungated else overrides, retrain)


def _check_plan(plan: bool, on: str | None, resume: Path | None) -> None:
    from fedloom.errors import BadInput

    if plan and resume is not None:
        raise BadInput("--plan is for a run that has not started: leave out --resume")
    if on is not None and not plan:
        raise BadInput(f"--on {on} is for --plan: a run takes the devices of its configuration")


def _fetch(chosen: Config | None, resume: Path | None) -> None:
    """Download the weights of a new run, or of one that is resumed."""
    from fedloom.cli.fetch import fetch_missing
    from fedloom.config import Config
    from fedloom.config.trees import validate
    from fedloom.runs.folder import RunFolder

    if chosen is None:
        assert resume is not None
        chosen = validate(Config, RunFolder.open(resume).config)
    fetch_missing(chosen)


def _carry_out(
    config: Config | None,
    out: Path | None,
    resume: Path | None,
    overwrite: bool,
    quiet: bool,
    notes: Sequence[str] = (),
    track: Sequence[str] = (),
    pages: Sequence[Observer] = (),
) -> Run:
    from fedloom import api
    from fedloom.errors import BadInput, FedloomError
    from fedloom.progress import Observers
    from fedloom.runs.stop import Stopped

    with ExitStack() as stack:
        watch = watcher(stack, quiet)
        try:
            observer = Observers([watch, *pages])
            given: dict[str, Any] = {"out": out, "resume": resume, "overwrite": overwrite}
            return api.run(config, observer=observer, track=track, notes=notes, **given)
        except KeyboardInterrupt:
            stack.close()
            raise Interrupted(f"interrupted. {_how_to_go_on(watch, resume)}") from None
        except BadInput:
            raise
        except Stopped as end:
            raise Interrupted(f"{end}. {_how_to_go_on(watch, resume)}") from None
        except FedloomError as error:
            raise FedloomError(f"{str(error).rstrip('.')}. {_how_to_go_on(watch, resume)}") from error


def watcher(stack: ExitStack, quiet: bool) -> Tracker:
    """What shows progress: nothing, a live view on a terminal, plain lines elsewhere."""
    from fedloom.cli.live import Lines, RunView, Tracker

    screen = console(stderr=True)
    if quiet:
        return Tracker()
    if screen.is_terminal:
        return stack.enter_context(RunView(screen))
    return Lines(lambda line: typer.echo(line, err=True))


def _how_to_go_on(watch: Tracker, resumed: Path | None) -> str:
    """The command that goes on with the run; `resumed`: the folder that it was resumed in, if it was."""
    folder = resumed or watch.folder
    if folder is not None and (Path(folder) / "summary.json").is_file():
        return _without_report(Path(folder))
    # A run that is stopped before round 0 is scored leaves no folder, or none with a config.yaml.
    if folder is None or not (Path(folder) / "config.yaml").is_file():
        return "Nothing to resume yet: give the same command again, what was pretrained stays in the cache"
    return f"What is done is kept; go on with: fedloom run --resume {folder}"


def _without_report(folder: Path) -> str:
    """What there is of a run that has its scores and perhaps no report yet, and the command that writes that."""
    scores = folder / "summary.json"
    return f"The run is finished, its scores are in {scores}; write its report with: fedloom report {folder}"


def conclude(run: Run, json: bool) -> None:
    """Write the report; print the scores before and after, what makes them doubtful, and where everything is."""
    from fedloom.reporting.html import write_report
    from fedloom.reporting.text import summary_table, warning_lines

    page = write_report([run.path])
    notes = [f"data: {line}" for line in run.summary.get("data_notes") or ()]
    if json:
        show_json(run.summary)
    else:
        table, doubts = summary_table(run.summary, run.rounds), warning_lines(run.warnings)
        show(table, *doubts, *notes, f"folder {run.path}", f"report {page}")
    if any(warning.name == "clients-died" for warning in run.warnings):
        raise typer.Exit(DIED)
