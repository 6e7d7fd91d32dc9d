"""What a run tells whoever watches it. The library only calls these; the command line draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
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

    def placed(self, folder: Path) -> None:
        """The run has its folder; what is set up from here on is written there."""

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The run is set up: method, data, rounds, folder and client names."""

    def phase(self, round: int, name: str) -> None:
        """Round `round` is in the phase `name`."""

    def within(self, done: int, total: int, doing: str) -> None:
        """A round goes on: training steps taken in this process, of about `total` (0: not known); what is being done.

        Told a few times a second at most.
        """

    def round(self, row: Mapping[str, Any]) -> None:
        """A round is scored: its row of metrics.jsonl (round 0 is the state before)."""

    def end(self, summary: Mapping[str, Any]) -> None:
        """The run is complete."""


class Observers(Observer):
    """Passes everything on to several, one after the other."""

    def __init__(self, members: Sequence[Observer]) -> None:
        self.members = members

    def filled(self, line: str) -> None:
        self._all("filled", line)

    def stage(self, name: str, total: int | None = None) -> None:
        self._all("stage", name, total)

    def at(self, done: int, note: str = "") -> None:
        self._all("at", done, note)

    def notes(self, lines: Sequence[str]) -> None:
        self._all("notes", lines)

    def placed(self, folder: Path) -> None:
        self._all("placed", folder)

    def begin(self, facts: Mapping[str, Any]) -> None:
        self._all("begin", facts)

    def phase(self, round: int, name: str) -> None:
        self._all("phase", round, name)

    def within(self, done: int, total: int, doing: str) -> None:
        self._all("within", done, total, doing)

    def round(self, row: Mapping[str, Any]) -> None:
        self._all("round", row)

    def end(self, summary: Mapping[str, Any]) -> None:
        self._all("end", summary)

    def _all(self, name: str, *arguments: Any) -> None:
        for member in self.members:
            getattr(member, name)(*arguments)
