"""The parent process as its child sees it, and ending with it."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from fedloom.processes.frames import read_frame, write_frame

Received = tuple[dict[str, Any], tuple[bytes, ...]]


class Parent:
    """For a `child.FramedChild`: frames from and to the parent, over the standard pipes.

    The pipes are for frames alone: what a library prints goes to standard error, and standard input is empty. A thread
    listens, so that the parent never waits for the work that is being done here, and so that this process ends as soon
    as the parent closes the pipe or dies: whatever is being computed then has no reader.
    """

    def __init__(self) -> None:
        self._source, self._sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.close(nothing)
        sys.stdout = sys.stderr
        self._inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Received:
        """The next frame, waited for as long as it takes."""
        return self._inbox.get()

    def send(self, header: Mapping[str, Any], *payloads: bytes) -> None:
        """Sends a frame; ends this process when the parent is gone."""
        try:
            write_frame(self._sink, header, *payloads)
        except OSError:
            _end()

    def _listen(self) -> None:
        try:
            while (frame := read_frame(self._source)) is not None:
                self._inbox.put(frame)
        finally:
            _end()


def end_with_input() -> None:
    """From now on this process ends when its standard input does, which nobody else may read."""

    def closed() -> None:
        while os.read(0, 1):
            pass

    _end_after(closed)


def end_with_parent() -> None:
    """From now on this process ends, with status 1, when the one that started it is gone; it looks once a second."""
    parent = os.getppid()

    def gone() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)

    _end_after(gone, status=1)


def _end_after(wait: Callable[[], None], status: int = 0) -> None:
    def end() -> None:
        wait()
        os._exit(status)

    threading.Thread(target=end, daemon=True).start()


def _end() -> None:
    """Ends this process; if it leads a process group, with all that it has started."""
    if os.getpgid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)
