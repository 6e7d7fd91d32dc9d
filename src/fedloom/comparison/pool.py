"""Cells done side by side by long-lived worker processes."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.comparison.cells import ComparisonCell
from fedloom.comparison.schedule import Schedule
from fedloom.comparison.watch import Watch
from fedloom.processes.child import Frame, FramedChild, python_environment

RUN = "fedloom.api:run"
_WORK = "from fedloom.comparison.worker import main; main()"  # -m would load it twice: this package imports it too
_GLANCE = 0.25  # seconds between two looks at the clock


class CellWorker(FramedChild):
    """A worker process, and the cell that it is at."""

    what = "worker process"

    def __init__(self, run: str, log: Path, frames: queue.SimpleQueue[Frame]) -> None:
        self.cell: ComparisonCell | None = None
        self.last: ComparisonCell | None = None
        words = ["-c", _WORK, run]
        super().__init__(words, frames, env=python_environment(1), log=log, own_group=True)

    def give(self, cell: ComparisonCell, folder: Path) -> None:
        """Orders a cell. That a worker is dead is known by the end of its frames."""
        self.cell = cell
        with contextlib.suppress(OSError):
            self.send({"folder": str(folder), "config": cell.config.model_dump(mode="json")})


class ComparisonPool:
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
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.workers: list[CellWorker] = []
        self.starts: list[dict[str, float]] = []  # seconds that workers took before their first cell
        self._log = log

    def __enter__(self) -> ComparisonPool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers:
            worker.stop(0.0)

    def work(self, finish: Callable[[ComparisonCell, str | None], None]) -> None:
        """Do all cells.

        Args:
            finish: called for every cell that has come to its end, with the reason if it failed.
        """
        while not self.schedule.empty or any(w.cell for w in self.workers):
            self._deal()
            try:
                worker, said, *_ = self.frames.get(timeout=_GLANCE)
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
        for worker in [w for w in self.workers if w.cell is None and w.alive()]:
            if (cell := self._next(worker.last)) is None:
                return
            self._give(worker, cell)
        while len(self.workers) < self.jobs and (cell := self._next(None)) is not None:
            self.workers.append(CellWorker(self.run, self._log, self.frames))
            self._give(self.workers[-1], cell)

    def _next(self, last: ComparisonCell | None) -> ComparisonCell | None:
        return self.schedule.next(last, [w.cell for w in self.workers if w.cell is not None])

    def _give(self, worker: CellWorker, cell: ComparisonCell) -> None:
        self.watch.start(cell)
        worker.give(cell, self.folder / cell.folder)

    def _end(
        self, worker: CellWorker, said: Mapping[str, Any], finish: Callable[[ComparisonCell, str | None], None]
    ) -> None:
        cell, worker.cell = worker.cell, None
        assert cell is not None
        worker.last = cell
        if said["how"] == "busy":
            self.schedule.put_off(cell)
            self.watch.put_off(cell)
        else:
            finish(cell, said.get("reason"))

    def _bury(self, worker: CellWorker, finish: Callable[[ComparisonCell, str | None], None]) -> None:
        """A dead worker fails the cell that it was at; another takes its place when there is work."""
        reason = worker.exit_reason()
        worker.stop(0.0)
        self.workers.remove(worker)
        if worker.cell is not None:
            finish(worker.cell, reason)


def usable_cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unique(cells: Sequence[ComparisonCell]) -> list[ComparisonCell]:
    """One cell a folder: identical configurations are run once."""
    return list({cell.folder: cell for cell in reversed(cells)}.values())[::-1]
