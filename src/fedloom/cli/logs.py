"""`fedloom logs`: the log of a run, a server or a silo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.options import ServerOption

_END = 1_000_000  # bytes of a log that are looked at for its last lines


def logs(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="A run (default: the server).")] = None,
    server: ServerOption = Path("fedloom-server"),
    silo: Annotated[Path | None, typer.Option(metavar="DIR", help="Show the log of the silo with this folder.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing as the log grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=1, help="Lines of each file.")] = 40,
) -> None:
    """Show the log of a run, a server or a silo.

    Example: fedloom logs 3f2a --follow
    """
    if job is not None:
        _job(server, job, follow)
        return
    files = sorted(((silo or server) / "logs").glob("*.log"))
    if not files:
        from fedloom.errors import BadInput

        raise BadInput(f"{silo or server}: there are no logs; is it the folder of a server or a silo?")
    for line in _tails(files, lines, follow):
        typer.echo(line)


def _job(server: Path, job: str, go_on: bool) -> None:
    """A run's events in the words of `fedloom run`."""
    from fedloom.cli.live import Lines
    from fedloom.deployment.events import EventClock, follow, run_status
    from fedloom.deployment.submit import event_path
    from fedloom.errors import FedloomError

    path, clock = event_path(server, job), EventClock()

    class Enough(Exception):
        pass

    def look() -> None:
        if not go_on:
            raise Enough

    try:
        folder = follow(path, Lines(typer.echo, clock), look, clock=clock)
        typer.echo(f"done, folder {folder}")
    except Enough:
        typer.echo(str(run_status(path)["state"]))
    except FedloomError as error:
        typer.echo(f"failed: {error}")


def _tails(files: list[Path], lines: int, go_on: bool) -> Iterator[str]:
    """The last lines of each file, then what comes after; a last line without an end waits for it."""
    import time

    at: dict[Path, int] = {}
    for file in files:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - _END))
            at[file] = handle.tell()
        yield from _new(file, at)[-lines:]
    while go_on:
        time.sleep(0.5)
        for file in files:
            yield from _new(file, at)


def _new(file: Path, at: dict[Path, int]) -> list[str]:
    """The whole lines of the file after byte `at[file]`, which moves on."""
    with file.open("rb") as handle:
        handle.seek(at[file])
        new = handle.read()
    whole = new.rfind(b"\n") + 1
    at[file] += whole
    return [f"{file.stem}: {line}" for line in new[:whole].decode(errors="replace").splitlines()]
