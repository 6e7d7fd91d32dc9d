"""Cells done side by side by long-lived worker processes."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.comparison.cells import Cell
from fedloom.comparison.schedule import Schedule
from fedloom.comparison.watch import Watch
from fedloom.federation.frames import read_frame, write_frame

RUN = "fedloom.api:run"
_CHILD = "from fedloom.comparison.worker import main; main()"
_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_GLANCE = 0.25  # seconds between two looks at the clock

Events = queue.SimpleQueue[tuple["Worker", dict[str, Any] | None]]


class Worker:
    """One child process, and a thread that puts what it says into `events` (None: it is no more)."""

    def __init__(self, run: str, log: Any, events: Events) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        # A plain child: the caller's script is not run again in it. A session of its own: Ctrl-C reaches the parent
        # alone, and what the worker starts ends with it.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **dict.fromkeys(_LIMITS, "1"), "PYTHONPATH": path},
        )
        self.cell: Cell | None = None
        self.last: Cell | None = None
        self.started = 0.0
        self.ready: dict[str, float] = {}
        self._events = events
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def give(self, cell: Cell, folder: Path) -> None:
        """Order a cell. A worker that is dead is told of by its reader."""
        self.cell, self.started = cell, time.monotonic()
        assert self.process.stdin is not None
        order = {"folder": str(folder), "config": cell.config.model_dump(mode="json")}
        with contextlib.suppress(OSError):
            write_frame(self.process.stdin, order)

    def end(self) -> None:
        """End the process and all that it has started."""
        with contextlib.suppress(OSError):  # the group may be gone
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(1.0)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not self._reader.is_alive():
                with contextlib.suppress(OSError):
                    pipe.close()

    def fate(self) -> str:
        """How the process ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.poll()
        how = "hung up" if code is None else f"ended with status {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
        return f"worker process {self.process.pid} {how}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := read_frame(self.process.stdout)) is not None:
                self._events.put((self, frame[0]))
        self._events.put((self, None))


class Pool:
    """Does the cells of a schedule. Use it as a context: its end, however it comes, ends the workers.

    Args:
        schedule: what is to be done, in which order.
        folder: where the cells lie.
        jobs: worker processes at a time.
        log: file for what workers print, tracebacks among it.
        watch: told of beginnings, rounds and ends.
        run: "module:function" that runs a cell.
    """

    def __init__(self, schedule: Schedule, folder: Path, jobs: int, log: Path, watch: Watch, run: str = RUN) -> None:
        self.schedule, self.folder, self.jobs = schedule, folder, jobs
        self.watch, self.run = watch, run
        self.events: Events = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.starts: list[dict[str, float]] = []  # seconds that workers took before their first cell
        self._log = log.open("ab")

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers:
            worker.end()
        self._log.close()

    def work(self, finish: Callable[[Cell, str | None], None]) -> None:
        """Do all cells.

        Args:
            finish: called for every cell that has come to its end, with the reason if it failed.
        """
        while not self.schedule.empty or any(w.cell for w in self.workers):
            self._deal()
            try:
                worker, said = self.events.get(timeout=_GLANCE)
            except queue.Empty:
                self.watch.tick()
                continue
            if said is None:
                self._bury(worker, finish)
            elif said["event"] == "ready":
                self.starts.append({k: said[k] for k in ("seconds", "cpu_seconds")})
            elif said["event"] == "at" and worker.cell is not None:
                self.watch.at(worker.cell, {k: v for k, v in said.items() if k != "event"})
            elif said["event"] == "end":
                self._end(worker, said, finish)

    def _deal(self) -> None:
        """Give work to whoever has none, starting workers while there is more to do."""
        for worker in [w for w in self.workers if w.cell is None and w.process.poll() is None]:
            if (cell := self._next(worker.last)) is None:
                return
            self._give(worker, cell)
        while len(self.workers) < self.jobs and (cell := self._next(None)) is not None:
            self.workers.append(Worker(self.run, self._log, self.events))
            self._give(self.workers[-1], cell)

    def _next(self, last: Cell | None) -> Cell | None:
        return self.schedule.next(last, [w.cell for w in self.workers if w.cell is not None])

    def _give(self, worker: Worker, cell: Cell) -> None:
        self.watch.start(cell)
        worker.give(cell, self.folder / cell.folder)

    def _end(self, worker: Worker, said: Mapping[str, Any], finish: Callable[[Cell, str | None], None]) -> None:
        cell, worker.cell = worker.cell, None
        assert cell is not None
        worker.last = cell
        if said["how"] == "busy":
            self.schedule.put_off(cell)
            self.watch.put_off(cell)
        else:
            finish(cell, said.get("reason"))

    def _bury(self, worker: Worker, finish: Callable[[Cell, str | None], None]) -> None:
        """A dead worker fails the cell that it was at; another takes its place when there is work."""
        fate = worker.fate()
        worker.end()
        self.workers.remove(worker)
        if worker.cell is not None:
            finish(worker.cell, fate)


def usable_cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unique(cells: Sequence[Cell]) -> list[Cell]:
    """One cell a folder: identical configurations are run once."""
    return list({cell.folder: cell for cell in reversed(cells)}.values())[::-1]
