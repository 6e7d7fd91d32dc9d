"""Runs of a study: each an ordinary run in a scratch folder of its own, in processes that do one after another."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence import rows
from evidence.harvest import row_of
from evidence.machine import commit, machine
from evidence.studies import Study
from fedloom.processes.child import Frame, FramedChild, python_environment

BENCHMARKS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Job:
    """One arm with one seed."""

    arm: str
    seed: int


class RunFailed(Exception):
    """Why a run came to no end."""


class Worker(FramedChild):
    """A process that does runs, one at a time. `code`: the commit that it has loaded."""

    what = "the run's process"

    def __init__(self, folder: Path, module: str = "evidence.worker") -> None:
        self.said: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.code = commit()
        # Where an arm's method may be: evidence.attackers
        known = python_environment(1)
        known["PYTHONPATH"] = os.pathsep.join((str(BENCHMARKS), known["PYTHONPATH"]))
        log = folder / f"worker-{time.monotonic_ns()}.txt"
        super().__init__(["-m", module], self.said, env=known, log=log, own_group=True)

    def do(self, order: Mapping[str, Any]) -> float:
        """Has a run done; its processor seconds.

        Raises:
            RunFailed: it failed, or the process died.
        """
        with contextlib.suppress(OSError):  # a dead one says so in its last frame
            self.send(order)
        _, answer, *_ = self.said.get()
        if answer is None:
            raise RunFailed(f"{self.exit_reason()}: {self.last_words()}")
        if answer["reason"]:
            raise RunFailed(answer["reason"])
        return float(answer["cpu_seconds"])


@dataclass
class Runner:
    """Makes rows of a study.

    extra: settings over those of the arms; they are in the rows, and rows of other settings are others.
    keep: a folder that run folders stay in; None: they are removed.
    """

    study: Study
    extra: Mapping[str, Any] = field(default_factory=dict)
    keep: Path | None = None
    _idle: list[Worker] = field(default_factory=list)
    _all: list[Worker] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fedloom-study-")))
    _ended: bool = False

    def row(self, job: Job) -> dict[str, str]:
        """Does the run; its row.

        Raises:
            RunFailed: it came to no end.
        """
        name = f"{job.arm}-{job.seed}"
        folder = self.keep / name if self.keep else Path(tempfile.mkdtemp(dir=self._scratch)) / "run"
        order = {"folder": str(folder), "preset": self.study.preset, "keep": self.keep is not None}
        order["overrides"] = self.study.overrides(job.arm, job.seed, self.extra)
        try:
            cpu, code = self._done(order)
            text = self.study.settings_text(job.arm, self.extra)
            return row_of(self.study, job.arm, job.seed, folder, settings=text, cpu_seconds=cpu, commit=code)
        finally:
            if self.keep is None:
                shutil.rmtree(folder.parent, ignore_errors=True)

    def _done(self, order: Mapping[str, Any]) -> tuple[float, str]:
        """Has a run done by a worker that is idle, or a new one; its processor seconds and its commit."""
        worker = self._worker()
        try:
            seconds = worker.do(order)
        finally:
            with self._lock:
                if worker.alive():
                    self._idle.append(worker)
        same = commit() == worker.code  # else it changed meanwhile
        return seconds, worker.code if same else f"{worker.code.removesuffix('-dirty')}-dirty"

    def _worker(self) -> Worker:
        """One that is idle and has the code as it is now."""
        with self._lock:
            if self._ended:
                raise RunFailed("stopped")
            while self._idle:
                worker = self._idle.pop()
                if worker.code == commit():
                    return worker
                worker.stop()
            self._all.append(Worker(self._scratch))
            return self._all[-1]

    def stop(self) -> None:
        """Ends the runs that go on, and lets no other begin."""
        with self._lock:
            self._ended = True
            for worker in self._all:
                worker.stop(0.0)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def rows(self, jobs: Iterable[Job], at_once: int) -> Iterator[tuple[Job, dict[str, str] | RunFailed]]:
        """The rows of jobs as they are done, `at_once` side by side; a failure stops no other."""
        pool = ThreadPoolExecutor(at_once)
        try:
            doing = {pool.submit(self.row, job): job for job in jobs}
            for done in as_completed(doing):
                error = done.exception()
                if error is not None and not isinstance(error, RunFailed):
                    raise error
                yield doing[done], error if isinstance(error, RunFailed) else done.result()
        finally:
            self.stop()
            pool.shutdown(cancel_futures=True)


def missing(
    study: Study,
    path: Path,
    jobs: Sequence[Job],
    extra: Mapping[str, Any],
    code: str | None = None,
    anywhere: bool = False,
) -> list[Job]:
    """The jobs that have no row with these settings on this kind of machine.

    Args:
        code: count rows of this commit only; those of a `-dirty` one never.
        anywhere: leave out a seed (in a grid a seed of a cell) that another kind of machine has all jobs of, too.
    """
    from fedloom.runs.environment import describe_environment

    here = rows.machine_of({**machine(), "torch": describe_environment()["packages"]["torch"]})
    found = [row for row in rows.read(path) if code is None or row["commit"] == code]
    there = {rows.key_of(row) for row in found if code is None or not code.endswith("-dirty")}

    def key(job: Job, on: tuple[str, ...]) -> tuple[str, ...]:
        return (study.name, job.arm, str(job.seed), study.settings_text(job.arm, extra), *on)

    blocks: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        blocks.setdefault(rows.block_of({"arm": job.arm, "seed": str(job.seed)}), []).append(job)
    machines = set(map(rows.machine_of, found)) if anywhere else set()
    there_whole = (b for b in blocks.values() if any(all(key(job, on) in there for job in b) for on in machines))
    whole = {job for b in there_whole for job in b}
    return [job for job in jobs if key(job, here) not in there and job not in whole]


def in_order(arms: Sequence[str], seeds: Sequence[int], at_once: int) -> list[Job]:
    """All arms of the first seeds, then of the next: `at_once` seeds in turn, as runs of one seed wait for the one
    pretraining that they share."""
    groups = [seeds[i : i + at_once] for i in range(0, len(seeds), at_once)]
    return [Job(arm, seed) for group in groups for arm in arms for seed in group]


def do(runner: Runner, jobs: Sequence[Job], path: Path, at_once: int, say: Callable[[str], None] = print) -> int:
    """Does the jobs, adds a row to the file as each ends, and says so; how many failed."""
    begun, failed = time.monotonic(), 0
    for n, (job, row) in enumerate(runner.rows(jobs, at_once), 1):
        if isinstance(row, RunFailed):
            failed += 1
            said = f"failed: {row}"
        else:
            rows.append(path, row)
            shown = (f"{name} {float(row[name]):.3f}" for name in runner.study.scores if row[name])
            said = ", ".join(shown) + f" ({float(row['seconds']):.0f} s)"
        left = (time.monotonic() - begun) / n * (len(jobs) - n)
        say(f"{n}/{len(jobs)} {job.arm} seed {job.seed}: {said}; {time_text(left)} left")
    return failed


def end_by_signals() -> None:
    """SIGTERM and a closed terminal end this process as Ctrl-C does, and with it the runs that go on."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda n, _: sys.exit(128 + n))


def time_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
