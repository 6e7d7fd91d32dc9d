"""What a run tells whoever watches it. The library only calls these; the command line draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Observer:
    """Ignores everything: the watcher of a silent run, and the base of the others."""

    def filled(self, line: str) -> None:
        """Something was chosen that nobody had said, or fitted to the data."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage begins: `total` steps long, if that is known."""

    def at(self, done: int, note: str = "") -> None:
        """The stage has come to step `done`."""

    def notes(self, lines: Sequence[str]) -> None:
        """The data are read: what was left out of them or looks wrong, a line each."""

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The run is set up: method, data, rounds, folder and client names."""

    def phase(self, round: int, name: str) -> None:
        """Round `round` is in the phase `name`."""

    def round(self, row: Mapping[str, Any]) -> None:
        """A round is scored: its row of metrics.jsonl (round 0 is the state before)."""

    def end(self, summary: Mapping[str, Any]) -> None:
        """The run is complete."""
