"""What a cell cost: wall and processor seconds, of its set-up and of each round, kept in the cell's folder."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import FedloomError
from fedloom.progress import Observer
from fedloom.runs.disk import json_text, read_object, write_atomic

COST = "cost.json"  # beside the run's own files


def cpu_seconds() -> float:
    """Processor seconds of this process and of the children that it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))


class Meter(Observer):
    """Watches one attempt at a cell; writes the cost at every round, so that a killed attempt counts too.

    tell: takes the stage, or the round, that the cell has come to.
    """

    def __init__(self, folder: Path, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self.folder, self.tell = folder, tell
        before = read_cost(folder)
        self.attempts = list(before.get("attempts", ()))
        self.rounds: dict[str, list[float]] = dict(before.get("rounds", {}))
        self.start = self.mark = (time.monotonic(), cpu_seconds())
        self.stages: dict[str, list[float]] = {}
        self.open = ""

    def _since(self, mark: tuple[float, float]) -> list[float]:
        return [time.monotonic() - mark[0], cpu_seconds() - mark[1]]

    def _close(self) -> None:
        """The stage that is open ends here."""
        if self.open:
            spent, before = self._since(self.mark), self.stages.get(self.open, [0.0, 0.0])
            self.stages[self.open] = [a + b for a, b in zip(before, spent)]
        self.mark = (time.monotonic(), cpu_seconds())

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of the set-up begins."""
        self._close()
        self.open = "pretraining" if name.startswith("pretraining") else "clients"
        self.tell({"stage": self.open})

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The set-up is over."""
        self._close()
        self.open = ""
        self.stages["setup"] = self._since(self.start)
        self.tell({"round": int(facts["resumed_at"] or 0), "rounds": int(facts["rounds"])})

    def phase(self, round: int, name: str) -> None:
        """A round begins, or ends with its evaluation; both count from the mark."""
        if name == "round":
            self.mark = (time.monotonic(), cpu_seconds())
            self.tell({"round": round})
        elif name == "evaluation" and round > 0:
            self.rounds[str(round)] = self._since(self.mark)

    def round(self, row: Mapping[str, Any]) -> None:
        """A round is on disk."""
        self.write()

    def write(self) -> None:
        """Put the cost so far beside the run, if there is one."""
        if (self.folder / "config.yaml").is_file():
            attempt = dict(zip(("seconds", "cpu_seconds"), self._since(self.start)))
            cost = {"attempts": [*self.attempts, {**attempt, "stages": self.stages}], "rounds": self.rounds}
            write_atomic(self.folder / COST, json_text(cost))


def read_cost(folder: Path) -> dict[str, Any]:
    """The cost of the cell in that folder, `{}` where it is not known."""
    try:
        return read_object(folder / COST)
    except FedloomError:
        return {}
