"""What commands that stay up share: lines with the time, and an orderly end on a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

import typer


class Running:
    """Says whether to go on."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def wait(self, seconds: float) -> bool:
        """After so many seconds True; False at once when a signal has come."""
        return not self._over.wait(seconds)

    def end(self) -> None:
        self._over.set()


@contextmanager
def until_signal() -> Iterator[Running]:
    """SIGTERM ends the loop within, exit code 0; Ctrl-C interrupts it as ever."""
    running = Running()

    def over(number: int, frame: FrameType | None) -> None:
        running.end()

    before = signal.signal(signal.SIGTERM, over)
    try:
        yield running
    finally:
        signal.signal(signal.SIGTERM, before)


def say(line: str) -> None:
    """A line on stdout with the time; also the ends of a pipe see it at once."""
    typer.echo(f"{datetime.now():%H:%M:%S} {line}")
