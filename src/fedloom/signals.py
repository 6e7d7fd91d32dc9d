"""Being asked to end: Ctrl-C, SIGTERM and a closed terminal are one thing, KeyboardInterrupt in the main thread.

| how | signal | exit code |
|---|---|---|
| Ctrl-C | SIGINT | 130 |
| `kill`, a batch system, a service manager, shutdown | SIGTERM | 143 |
| the terminal was closed | SIGHUP (not on Windows) | 129 |

The exit code is 128 and the signal's number, as shells and batch systems have it. So whatever cleans up after Ctrl-C
cleans up after all of them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_PATIENCE = 1.0  # seconds; Ctrl-C that comes later than that ends the cleaning up too


def endings() -> list[signal.Signals]:
    """The signals of this platform by which a process is asked to end."""
    return [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]


class Interrupted(Exception):
    """A command was asked to end, and has; the message is the line to say, with how to go on."""


class Heard:
    """The signal by which this process was asked to end; `number` is None as long as it was not."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._at = 0.0
        self._terminals = [fd for fd in (0, 1, 2) if _is_terminal(fd)]

    @property
    def code(self) -> int:
        """The exit code: of Ctrl-C where no signal was heard, as when KeyboardInterrupt was raised by other means."""
        return 128 + (self.number or signal.SIGINT)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler. Whoever repeats SIGTERM (`timeout`, batch systems) does not cut the cleaning up short."""
        if self.number is None:
            self.number, self._at = number, time.monotonic()
            self._leave_closed_terminals()
        elif number != signal.SIGINT or time.monotonic() - self._at < _PATIENCE:
            return
        raise KeyboardInterrupt

    def _leave_closed_terminals(self) -> None:
        """Has what is still to be said go nowhere instead of failing, where nobody can read it any more."""
        for fd in self._terminals:
            if not _is_terminal(fd):
                with suppress(OSError):
                    nowhere = os.open(os.devnull, os.O_RDWR)
                    os.dup2(nowhere, fd)
                    os.close(nowhere)


@contextmanager
def heard() -> Iterator[Heard]:
    """Within, each of these signals raises KeyboardInterrupt in the main thread; afterwards all is as it was.

    A signal that whoever started this process has it ignore stays ignored, as SIGHUP under `nohup`. Outside the main
    thread nothing is changed.
    """
    handler, before = Heard(), {}
    if threading.current_thread() is threading.main_thread():
        for number in endings():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: set by other than Python
                before[number] = signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def leave_to_parent() -> None:
    """For a child that ends when its parent's pipe closes: the parent hears the signals and decides."""
    for number in endings():
        signal.signal(number, signal.SIG_IGN)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
