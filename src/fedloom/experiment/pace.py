"""How far a round is, told while it goes on: training steps of this process, and who has answered what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fedloom.federation.base import Federation
from fedloom.limits import before_each_step
from fedloom.progress import Observer

OFTEN = 0.2  # seconds between two tellings


class Pace:
    """Counts, and tells `watch`."""

    def __init__(self, watch: Observer, total: int) -> None:
        self.watch, self.total, self.done, self.doing = watch, total, 0, ""
        self._told = 0.0

    def step(self) -> None:
        """A training step is about to be taken in this process."""
        self.done += 1
        self._tell()

    def heard(self, verb: str, replies: int, asked: int) -> None:
        """Clients were asked, or one has answered."""
        self.doing = f"{verb}, {replies} of {asked} clients answered" if replies else f"{verb}, {asked} clients"
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= OFTEN:
            self._told = now
            self.watch.within(self.done, max(self.total, self.done) if self.total else 0, self.doing)


@contextmanager
def watched(watch: Observer, federation: Federation, total: int) -> Iterator[None]:
    """Tells `watch` of what is done in this context, a round of about `total` training steps in this process."""
    pace = Pace(watch, total)
    federation.heard = pace.heard
    try:
        with before_each_step(pace.step):
            yield
    finally:
        federation.heard = None
