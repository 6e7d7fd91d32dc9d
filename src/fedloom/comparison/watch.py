"""What a comparison tells whoever watches it. Light."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedloom.comparison.cells import ComparisonCell


class Watch:
    """Keeps what a comparison told, and draws nothing; subclasses do.

    clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begun = clock()
        self.title, self.folder, self.jobs = "", "", 1
        self.total = self.found = self.done = 0
        self.running: dict[str, tuple[ComparisonCell, float, dict[str, Any]]] = {}
        self.waiting: set[str] = set()
        self.told: set[str] = set()  # that were put off before
        self.failed: list[str] = []
        self.rows: dict[str, str] = {}  # folder -> row of every cell that is still to be done
        self.paces: list[tuple[str, float]] = []  # row and seconds of each cell done here

    def filled(self, line: str) -> None:
        """Something was chosen that nobody had said, or fitted to the data."""

    def begin(self, title: str, folder: str, total: int, found: int, rows: Mapping[str, str], jobs: int) -> None:
        """The plan is made: `total` runs, of which `found` are there already; `rows`: what is to be done."""
        self.title, self.folder = title, folder
        self.total, self.found, self.done = total, found, found
        self.rows, self.jobs, self.begun = dict(rows), max(1, jobs), self.clock()

    def start(self, cell: ComparisonCell) -> None:
        """A worker begins with the cell."""
        self.running[cell.folder] = (cell, self.clock(), {})
        self.waiting.discard(cell.folder)

    def at(self, cell: ComparisonCell, place: Mapping[str, Any]) -> None:
        """The cell has come to a stage of its set-up, or to a round."""
        if cell.folder in self.running:
            self.running[cell.folder][2].update(place)

    def put_off(self, cell: ComparisonCell) -> None:
        """Another comparison is doing the cell."""
        self.running.pop(cell.folder, None)
        self.waiting.add(cell.folder)
        self.told.add(cell.folder)

    def finish(self, cell: ComparisonCell, record: Mapping[str, Any]) -> None:
        """The cell has come to its end; `record` as in comparison.json."""
        _, start, _ = self.running.pop(cell.folder, (cell, self.clock(), {}))
        self.paces.append((cell.row, self.clock() - start))
        self.rows.pop(cell.folder, None)
        self.done += 1
        if record.get("error"):
            self.failed.append(cell.label)

    def tick(self) -> None:
        """A moment has passed."""

    def left(self) -> float | None:
        """Seconds to the end, at the pace of the cells done here: of the same row where there is one."""
        if not self.paces:
            return None
        whole = sum(s for _, s in self.paces) / len(self.paces)
        now, rest, longest = self.clock(), 0.0, 0.0
        for folder, row in self.rows.items():
            of_row = [s for name, s in self.paces if name == row]
            need = sum(of_row) / len(of_row) if of_row else whole
            if folder in self.running:
                need = max(0.0, need - (now - self.running[folder][1]))
            rest, longest = rest + need, max(longest, need)
        return max(rest / self.jobs, longest)
