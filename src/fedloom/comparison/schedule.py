"""Which cell is done next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fedloom.comparison.cells import ComparisonCell

PAUSE = 2.0  # seconds until a cell that another comparison is at is looked at again


class Schedule:
    """Cells that wait. Rows of one column and seed share split, data and warm start: two workers at such cells wait
    for one another where the cache has nothing yet, one worker that does them in turn finds it all there.

    clock: seconds, monotonic.
    """

    def __init__(self, cells: Sequence[ComparisonCell], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._waiting = list(cells)
        self._not_before: dict[str, float] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing waits, put off or not."""
        return not self._waiting

    def next(self, last: ComparisonCell | None, running: Sequence[ComparisonCell]) -> ComparisonCell | None:
        """The cell for a worker whose last one was `last`: of the same column and seed if there is one, else of those
        that the fewest others are at. None when all that wait are put off.

        Args:
            running: cells that are being done.
        """
        now = self.clock()
        ready = [c for c in self._waiting if self._not_before.get(c.folder, now) <= now]
        if not ready:
            return None
        groups = [cell.group for cell in running]
        own = last.group if last is not None else None
        chosen = min(ready, key=lambda c: (c.group != own, groups.count(c.group)))  # the first of equals
        self._waiting.remove(chosen)
        return chosen

    def put_off(self, cell: ComparisonCell) -> None:
        """Look at the cell again later: somebody else is doing it."""
        self._waiting.append(cell)
        self._not_before[cell.folder] = self.clock() + PAUSE
