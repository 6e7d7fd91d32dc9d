"""One worker process as the server's process holds it."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fedloom.federation.frames import read_frame, write_frame
from fedloom.federation.host import ClientSpec

_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_FAREWELL = 3.0  # seconds a worker has to end by itself


class Event(NamedTuple):
    """A frame a worker wrote, or (header None) that it writes no more."""

    worker: Worker
    arrived: float
    header: dict[str, Any] | None
    payload: bytes


class Worker:
    """One child process, and a thread that puts what it says into `events`."""

    def __init__(self, sites: Sequence[ClientSpec], threads: int, events: queue.SimpleQueue[Event]) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        limits = dict.fromkeys(_THREAD_LIMITS, str(threads))
        self.sites = sites
        self.waiting: set[int] = set()
        self.gone = False
        # A plain child rather than multiprocessing's: the caller's script is not run again in it, so it needs
        # no `if __name__ == "__main__"`, and the thread limits are in place before anything is imported.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedloom.federation.engines.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **limits, "PYTHONPATH": path},
        )
        self._events = events  # read by a thread, so that a worker never waits for the server to listen
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Sends a frame; the answer to its id is then due. Raises OSError when the process is dead."""
        assert self.process.stdin is not None
        write_frame(self.process.stdin, header, payload)
        self.waiting.add(header["id"])

    def dead(self) -> bool:
        return self.gone or self.process.poll() is not None

    def fate(self) -> str:
        """How the process ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.poll()
        if code is None:
            return f"worker process {self.process.pid} hung up"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"worker process {self.process.pid} {how}"

    def hang_up(self) -> None:
        """Closes the pipe, upon which the process ends itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def end(self) -> None:
        """Ends the process, by force if it does not go by itself, and waits for it."""
        assert self.process.stdout is not None
        self.hang_up()
        try:
            self.process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(1.0)
        # While a process that the worker forked holds the pipe, closing it here would wait for that one.
        if not self._reader.is_alive():
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := read_frame(self.process.stdout)) is not None:
                header, (payload,) = frame
                self._events.put(Event(self, time.monotonic(), header, payload))
        self._events.put(Event(self, time.monotonic(), None, b""))
