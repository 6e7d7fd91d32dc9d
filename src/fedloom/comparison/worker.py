"""A worker of a comparison: a long-lived process that does one cell after another.

It leads a process group of its own, so that whatever ends it ends what it started too.
"""

from __future__ import annotations

import gc
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedloom.comparison.meter import Meter, cpu_seconds
from fedloom.config import Config
from fedloom.config.trees import validate
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.host import load_function, one_line
from fedloom.processes.parent import Parent
from fedloom.runs.disk import locked, read_lines, read_object
from fedloom.runs.folder import RunFolder, read_config

LOCKS = ".locks"  # beside the cells


def finished(folder: Path, config: Config) -> bool:
    """Whether that folder holds this very run, whole.

    Raises:
        FedloomError: the folder is damaged, or holds something else.
    """
    from fedloom.experiment.begin import refuse_another

    refuse_another(RunFolder.open(folder), config)
    rows = read_lines(folder / "metrics.jsonl")
    return bool(read_object(folder / "summary.json")) and bool(rows) and rows[-1]["round"] == config.rounds


def do_cell(run: Callable[..., Any], folder: Path, config: Config, tell: Callable[[Mapping[str, Any]], None]) -> str:
    """Bring the cell to its end, from wherever it is.

    Args:
        run: does or resumes a run, as `fedloom.run`.

    Returns:
        "done"; or "busy" when another process is at this cell.

    Raises:
        FedloomError: the run failed; or anything that is a bug.
    """
    locks = folder.parent / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    try:
        # The run's own lock comes with its folder; this one also covers making and removing that folder.
        with locked(locks / f"{folder.name}.lock", wait=False):
            resume = _clear_unless_sound(folder, config)
            if resume and finished(folder, config):
                return "done"
            meter = Meter(folder, tell)
            try:
                place = {"resume": folder} if resume else {"out": folder}
                run(config, **place, keep=False, observer=meter)
            finally:
                meter.write()
    except BlockingIOError:
        return "busy"
    return "done"


def _clear_unless_sound(folder: Path, config: Config) -> bool:
    """Whether the folder holds a run to go on with; what is no readable run is removed.

    Raises:
        BlockingIOError: somebody else goes on with this run just now.
        FedloomError: it is a run of another configuration.
    """
    if not folder.exists():
        return False
    try:
        read_config(folder)
        read_lines(folder / "metrics.jsonl")
        summary = read_object(folder / "summary.json")
        if summary and not finished(folder, config):
            raise FedloomError(f"{folder}: its summary is not of its rounds")
    except FedloomError as error:
        if "another configuration" in str(error):
            raise
        shutil.rmtree(folder)
        return False
    with locked(folder / ".lock", wait=False):
        return True


def main() -> None:
    """Serve until the parent closes the pipe. The first argument names the function that runs a cell."""
    parent, start = Parent(), time.monotonic()
    run = load_function(sys.argv[1])
    parent.send({"event": "ready", "seconds": time.monotonic() - start, "cpu_seconds": cpu_seconds()})
    while True:
        order, _ = parent.receive()
        answer = _answer(run, order, lambda told: parent.send({"event": "at", **told}))
        gc.collect()  # models of the last run hold one another in cycles
        parent.send({"event": "end", **answer})


def _answer(
    run: Callable[..., Any], order: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    try:
        config = validate(Config, order["config"])
        return {"how": do_cell(run, Path(order["folder"]), config, tell)}
    except FedloomError as error:
        if isinstance(error, BadInput) and "another process is writing" in str(error):
            return {"how": "busy"}
        return {"how": "failed", "reason": " ".join(str(error).split())}
    except Exception as error:  # noqa: BLE001 - a bug fails its cell, not the comparison
        traceback.print_exc()  # to the log
        return {"how": "failed", "reason": one_line(error)}
