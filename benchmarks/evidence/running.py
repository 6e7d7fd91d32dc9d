"""Runs of a study: each an ordinary `fedloom run` in a process and a scratch folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
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

BENCHMARKS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Job:
    """One arm with one seed."""

    arm: str
    seed: int


class RunFailed(Exception):
    """What a run said last before it ended with another exit code than 0."""


@dataclass
class Runner:
    """Makes rows of a study.

    extra: settings over those of the arms; they are in the rows, and rows of other settings are others.
    keep: a folder that run folders stay in; None: they are removed.
    """

    study: Study
    extra: Mapping[str, Any] = field(default_factory=dict)
    keep: Path | None = None
    _children: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def row(self, job: Job) -> dict[str, str]:
        """Does the run; its row.

        Raises:
            RunFailed: it ended with another exit code than 0.
        """
        scratch = Path(tempfile.mkdtemp(prefix="fedloom-study-"))
        folder = (self.keep / f"{job.arm}-{job.seed}") if self.keep else scratch / "run"
        try:
            before = commit()
            command = [sys.executable, "-m", "fedloom.cli", "run", "--quiet", "--overwrite", "--out", str(folder)]
            command += self.study.options(job.arm, job.seed, self.extra)
            cpu = self._finish(command, scratch / "output.txt")
            after = commit()
            code = after if after == before else f"{before.removesuffix('-dirty')}-dirty"  # it changed meanwhile
            text = self.study.settings_text(job.arm, self.extra)
            return row_of(self.study, job.arm, job.seed, folder, settings=text, cpu_seconds=cpu, commit=code)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _finish(self, command: Sequence[str], output: Path) -> float:
        """Runs a command to its end; processor seconds of it and of the processes that it waited for."""
        known = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH"))))  # evidence.attackers
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": known}
        with output.open("wb") as handle:
            with self._lock:
                if self._ended:
                    raise RunFailed("stopped")
                child = subprocess.Popen(command, stdout=handle, stderr=subprocess.STDOUT, env=environment)
                self._children.add(child.pid)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)  # already waited for: Popen must not
            with self._lock:
                self._children.discard(child.pid)
        if child.returncode:
            said = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
            raise RunFailed(f"exit code {child.returncode}: {said[-1] if said else 'it said nothing'}")
        return usage.ru_utime + usage.ru_stime

    def stop(self) -> None:
        """Ends the runs that go on, and lets no other begin."""
        with self._lock:
            self._ended = True
            for pid in self._children:
                os.kill(pid, signal.SIGTERM)

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
    study: Study, path: Path, jobs: Iterable[Job], extra: Mapping[str, Any], code: str | None = None
) -> list[Job]:
    """The jobs that have no row with these settings on this kind of machine.

    Args:
        code: count rows of this commit only; those of a `-dirty` one never.
    """
    from fedloom.runs.environment import describe_environment

    here = {**machine(), "torch": describe_environment()["packages"]["torch"]}
    found = (row for row in rows.read(path) if code is None or row["commit"] == code)
    there = {rows.key_of(row) for row in found if code is None or not code.endswith("-dirty")}

    def key(job: Job) -> tuple[str, ...]:
        own = (study.name, job.arm, str(job.seed), study.settings_text(job.arm, extra))
        return (*own, *rows.machine_of(here))

    return [job for job in jobs if key(job) not in there]


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
