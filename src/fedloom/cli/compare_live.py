"""What a comparison shows while it goes on: a live picture on a terminal, plain lines elsewhere. Both to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fedloom.cli.screen import LiveView
from fedloom.comparison.watch import Watch
from fedloom.formatting import second_text
from fedloom.reporting.scores import KIND_NAMES, number

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from fedloom.comparison.cells import ComparisonCell

SHORT = {
    "image_accuracy": "image",
    "text_accuracy": "text",
    "pair_recall": "pairs",
    "server_recall": "server",
    "joint_accuracy": "joint",
    "server_accuracy": "shared",
    **{f"{kind}_own": f"{one} alone" for kind, (one, _) in KIND_NAMES.items()},
    "t2i_accuracy": "T2I",
}


def said(cell: ComparisonCell, record: Mapping[str, Any]) -> str:
    """What became of a cell: `FedMD, 2+2, seed 1: image 0.71, text 0.80 in 31 s`."""
    if record.get("error"):
        return f"{cell.label}: failed, {record['error']}"
    scores = record.get("scores") or {}
    values = {name: number((scores.get(key) or {}).get("after")) for key, name in SHORT.items()}
    figures = ", ".join(f"{name} {value:.2f}" for name, value in values.items() if value is not None)
    seconds = number(record.get("seconds"))
    spent = f" in {second_text(_rough(seconds))}" if seconds is not None else ""
    return f"{cell.label}: {figures or 'done'}{spent}"


def _rough(seconds: float) -> float:
    """Whole seconds, but for very short times."""
    return round(seconds) if seconds >= 10 else round(seconds, 1)


def left(watch: Watch) -> str:
    """`about 4 min left`; '' when it is not known, or over."""
    seconds = watch.left()
    if seconds is None or seconds < 1 or watch.done >= watch.total:
        return ""
    return f"about {second_text(round(seconds))} left" if seconds < 60 else f"about {_minutes(seconds)} left"


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class ComparisonLines(Watch):
    """A line when it begins, and one for each cell that is done."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.say = say

    def filled(self, line: str) -> None:
        """Say it."""
        self.say(line)

    def begin(self, *facts: Any, **more: Any) -> None:
        """Say what is to be done."""
        super().begin(*facts, **more)
        found = f", {self.found} done already" if self.found else ""
        self.say(f"{self.title}: {self.total} runs{found}, {self.jobs} at a time, folder {self.folder}")

    def put_off(self, cell: ComparisonCell) -> None:
        """Say once that somebody else is at the cell."""
        if cell.folder not in self.told:
            self.say(f"{cell.label}: another comparison is running it, waiting")
        super().put_off(cell)

    def finish(self, cell: ComparisonCell, record: Mapping[str, Any]) -> None:
        """Say what became of the cell, and how long the rest will take."""
        super().finish(cell, record)
        width = len(str(self.total))
        line = f"[{self.done:>{width}}/{self.total}] {said(cell, record)}"
        self.say("; ".join(x for x in (line, left(self)) if x))


class ComparisonView(LiveView, Watch):
    """A bar of cells on a terminal, and a line for each that runs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        Watch.__init__(self, clock)
        LiveView.__init__(self, console, clock, "cells")

    def finish(self, cell: ComparisonCell, record: Mapping[str, Any]) -> None:
        """Write a line above the picture."""
        super().finish(cell, record)
        style = "red" if record.get("error") else ""
        self.live.console.print(said(cell, record), style=style, markup=False, soft_wrap=True)

    def picture(self) -> RenderableType:
        """A bar of cells, and a line for each that runs."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if not self.total:
            return Text("making the plan and reading the data ...")
        failed = f"{len(self.failed)} failed" if self.failed else ""
        spent = second_text(round(self.clock() - self.begun))
        self.bar("cells", "cells", self.done, self.total, spent, left(self), failed)
        running = Table.grid(padding=(0, 2))
        for cell, start, place in self.running.values():
            running.add_row(Text(f"  {cell.label}"), Text(where(place)), Text(second_text(round(self.clock() - start))))
        waiting = f"  {len(self.waiting)} being run by another comparison"
        rest = [Text(waiting, style="dim")] if self.waiting else []
        return Group(Text(self.title, style="bold"), self.bars, running, *rest)


def where(place: Mapping[str, Any]) -> str:
    """`round 2/4`, or the stage of the set-up."""
    if "round" in place:
        return f"round {place['round']}/{place.get('rounds', '?')}"
    return str(place.get("stage", "starting"))
