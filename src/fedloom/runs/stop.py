"""Asking a run to end, from another process of this machine. What it has done is kept, and it can be resumed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fedloom.errors import BadInput, FedloomError
from fedloom.runs.disk import is_held

LOCK, REQUEST = ".lock", ".stop"


class Stopped(FedloomError):
    """A run has ended after a round, as it was asked to."""


def ask_to_stop(folder: Path, now: bool = False) -> float | None:
    """Ask the run in a folder to end after its round, or `now`, as Ctrl-C does.

    Returns:
        When it was asked before (seconds of the epoch), if it was and has not ended yet.

    Raises:
        BadInput: no process of this machine is at that run.
    """
    if not (folder / "config.yaml").is_file():
        raise BadInput(f"{folder}: expected a run folder, with a config.yaml")
    if not (folder / LOCK).is_file() or not is_held(folder / LOCK):
        raise BadInput(f"{folder}: no process of this machine is at this run")
    try:
        since = (folder / REQUEST).stat().st_mtime
    except FileNotFoundError:
        since = None
        (folder / REQUEST).touch()
    if now:
        try:
            os.kill(int((folder / LOCK).read_text()), signal.SIGINT)
        except (ValueError, OSError) as error:
            raise FedloomError(f"{folder}: the process that is at it cannot be reached ({error})") from None
    return since


def begin(folder: Path) -> None:
    """Forget what was asked of an earlier process; say who is at the run now. The caller holds its lock."""
    (folder / REQUEST).unlink(missing_ok=True)
    (folder / LOCK).write_text(str(os.getpid()))


def asked(folder: Path) -> bool:
    """Whether the round that has just been written is to be the last; asks once."""
    there = (folder / REQUEST).exists()
    (folder / REQUEST).unlink(missing_ok=True)
    return there
