"""`fedloom submit`: submit a run to a server whose silos have joined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli import options
from fedloom.cli.screen import show_json
from fedloom.signals import Interrupted

if TYPE_CHECKING:
    from fedloom.config import Config
    from fedloom.deployment.job import Job


SilosOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Number of silos to wait for before the run starts.")
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The run's folder (default: in the server's runs/).")
]
ResumeOption = Annotated[Path | None, typer.Option(metavar="RUN", help="Resume the run in this folder.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Return once the run is submitted.")]


def submit(
    method: options.MethodOption = None,
    data: options.DataOption = None,
    root: options.RootOption = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    seed: options.SeedOption = None,
    rounds: options.RoundsOption = None,
    silos: SilosOption = None,
    server: options.ServerOption = Path("fedloom-server"),
    out: OutOption = None,
    overwrite: options.OverwriteOption = False,
    resume: ResumeOption = None,
    detach: DetachOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Submit a run to a server whose silos have joined, and watch it.

    The silos bring their clients, models and data; --data is the server's own: class names, what its generator is
    pretrained on and judged by. Ctrl-C stops watching, not the run.

    Example: fedloom submit --method fedmmkt --data flora --silos 3 --seed 1
    """
    from fedloom.deployment.submit import hand_over
    from fedloom.deployment.superlink import Host

    options.check_resume(resume, out, overwrite)
    given: dict[str, Any] = {"method": method, "data": data, "root": root, "preset": preset, "file": config}
    given |= {"overrides": set_, "seed": seed, "rounds": rounds}
    notes: list[str] = []
    job = _job(_configured(given, silos, resume, notes), out, resume, overwrite)
    with Host.attach(server) as host:
        number = hand_over(host, job)
    options.tell(notes)
    if detach:
        said = {"job": job.id, "flower": number, "server": str(server)}
        show_json(said) if json else typer.echo(f"job {job.id} is submitted; see `fedloom status`")
        return
    _watch(server, job, json, quiet)


def _configured(given: dict[str, Any], silos: int | None, resume: Path | None, notes: list[str]) -> Config:
    """The configuration of the run, checked as far as it can be without its silos."""
    from fedloom.config import Config
    from fedloom.config.trees import validate
    from fedloom.experiment.begin import refuse_another
    from fedloom.experiment.resolve import resolve, sized
    from fedloom.runs.folder import RunFolder

    if resume is None:
        chosen = options.configuration(**given, notes=notes)
    else:
        own = RunFolder.open(resume)
        chosen = options.configuration_of(resume, **given) or validate(Config, own.config)
    engine = {"name": "flower", "mode": "deployment", **({} if silos is None else {"silos": silos})}
    tree = chosen.model_dump(mode="json")
    chosen = sized(validate(Config, {**tree, "engine": {**tree["engine"], **engine}}), notes.append)
    resolve(chosen)
    if resume is not None:
        refuse_another(RunFolder.open(resume), chosen)
    return chosen


def _job(config: Config, out: Path | None, resume: Path | None, overwrite: bool) -> Job:
    from fedloom.deployment.job import Job

    return Job(
        config.model_dump(mode="json"),
        out=None if out is None else str(out.resolve()),
        resume=None if resume is None else str(resume.resolve()),
        overwrite=overwrite,
    )


def _watch(server: Path, job: Job, json: bool, quiet: bool) -> None:
    from contextlib import ExitStack

    from fedloom.cli.run import conclude, watcher
    from fedloom.deployment.events import follow
    from fedloom.deployment.job import event_file
    from fedloom.errors import BadInput, FedloomError
    from fedloom.results import load_run

    with ExitStack() as stack:
        watch = watcher(stack, quiet)
        try:
            folder = follow(event_file(server, job.id), watch, lambda: None)
        except KeyboardInterrupt:
            stack.close()
            again = f"fedloom logs {job.id} --server {server} --follow"
            raise Interrupted(f"the run goes on; watch it with: {again}") from None
        except BadInput:
            raise
        except FedloomError as error:
            place = watch.folder or job.resume
            how = f"; go on with: fedloom submit --server {server} --resume {place}" if place else ""
            raise FedloomError(f"{str(error).rstrip('.')}{how}") from error
    conclude(load_run(folder), json)
