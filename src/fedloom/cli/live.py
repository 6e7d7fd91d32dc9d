"""What a run shows while it goes on: a live picture on a terminal, plain lines elsewhere. Both go to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedloom.cli.screen import LiveView
from fedloom.formatting import second_text
from fedloom.progress import Observer
from fedloom.reporting.scores import OWN, RECALLS, SCORES, USUAL, Score, number, wanted
from fedloom.tasks import client_word

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

SELDOM = 60.0  # seconds between two lines within a round
RARE = (*RECALLS, "joint_accuracy", "server_accuracy", *OWN)  # shown where they are


class Tracker(Observer):
    """Keeps what a run reported: facts, stage, round, scores, pace. Subclasses draw it.

    clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.facts: dict[str, Any] = {}
        self.stage_name, self.stage_total, self.stage_done, self.stage_note = "starting", 0, 0, ""
        self.stage_start = self.mark = clock()
        self.round_number, self.phase_name = 0, ""
        self.steps_done, self.steps_total, self.doing = 0, 0, ""  # of the round that goes on
        self.start = clock() or None  # a clock that follows events begins with the first of them
        self.first: Mapping[str, Any] = {}
        self.last: Mapping[str, Any] = {}
        self.paces: list[float] = []  # seconds of each round done in this process

    def filled(self, line: str) -> None:
        """Say it on stderr, also where no progress is shown."""
        sys.stderr.write(f"{line}\n")

    def stage(self, name: str, total: int | None = None) -> None:
        """Note the stage."""
        self.stage_name, self.stage_total, self.stage_done, self.stage_note = name, total or 0, 0, ""
        self.stage_start = self.clock()
        self.start = self.stage_start if self.start is None else self.start

    def at(self, done: int, note: str = "") -> None:
        """Note how far the stage is."""
        self.stage_done, self.stage_note = done, note

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Note the facts; from here on rounds count."""
        self.facts, self.stage_name, self.mark = dict(facts), "", self.clock()
        self.start = self.mark if self.start is None else self.start

    def phase(self, round: int, name: str) -> None:
        """Note where the run is."""
        self.round_number, self.phase_name = round, name
        self.steps_done, self.steps_total, self.doing = 0, 0, ""

    def within(self, done: int, total: int, doing: str) -> None:
        """Note how far the round is."""
        self.steps_done, self.steps_total, self.doing = done, total, doing

    def round(self, row: Mapping[str, Any]) -> None:
        """Note the scores and the seconds of the round, unless it is from before a resumption."""
        now, self.last, self.first = self.clock(), row, self.first or row
        self.round_number = int(row.get("round") or 0)
        if not self.replayed(row) and self.round_number:
            self.paces.append(now - self.mark)
        self.mark = now

    def replayed(self, row: Mapping[str, Any]) -> bool:
        """Whether the row was there before this process went on with the run."""
        return int(row.get("round") or 0) < int(self.facts.get("resumed_at") or 0)

    @property
    def rounds(self) -> int:
        """Rounds of the whole run."""
        return int(self.facts.get("rounds") or 0)

    @property
    def folder(self) -> Any:
        """The run's folder, or None before it is known."""
        return self.facts.get("folder")

    def stage_left(self) -> float | None:
        """Seconds to the stage's end at its pace so far."""
        if not 0 < self.stage_done < self.stage_total:
            return None
        return (self.clock() - self.stage_start) / self.stage_done * (self.stage_total - self.stage_done)

    def elapsed(self) -> float:
        """Seconds since the run began, in this process."""
        return self.clock() - (self.stage_start if self.start is None else self.start)

    def rounds_left(self) -> float | None:
        """Seconds to the last round's end at the mean pace so far; in the first round by the share of its steps."""
        missing, since = self.rounds - int(self.last.get("round") or 0), self.clock() - self.mark
        if missing <= 0:
            return None
        if self.paces:
            return max(0.0, sum(self.paces) / len(self.paces) * missing - since)
        if not 0 < self.steps_done < self.steps_total:
            return None
        return since * (self.steps_total / self.steps_done * missing - 1)

    def where(self) -> str:
        """The round that goes on, its phase, what clients are asked and its steps, in a line; "" before the first."""
        if not self.facts:
            return ""
        name = f"round {self.round_number}" + (f": {self.phase_name}" if self.phase_name not in ("", "round") else "")
        steps = f"step {self.steps_done}" + (f" of about {self.steps_total}" if self.steps_total else "")
        told = [text for text in (self.doing, steps if self.steps_done else "") if text]
        return f"{name}: {', '.join(told)}" if told else name

    def heading(self) -> str:
        """Method, data, clients and folder in a line."""
        groups: Mapping[str, Sequence[str]] = self.facts.get("clients") or {}
        clients = " + ".join(f"{len(names)} {client_word(task)}" for task, names in groups.items() if names)
        what = f"{self.facts.get('method', '')} on {self.facts.get('data', '')}"
        return f"{what}, {clients + ' clients' if clients else 'no clients'}, folder {self.folder}"


def kept_share(row: Mapping[str, Any]) -> float | None:
    """Share of the round's synthetic samples that were trained on."""
    labels = row.get("labels")
    return number(labels.get("kept_share")) if isinstance(labels, Mapping) else None


def shown(*rows: Mapping[str, Any]) -> list[Score]:
    """The scores to show: those that one of the rows has, and those that are missed where they are not."""
    there = {s.key for s in SCORES if any(number(row.get(s.key)) is not None for row in rows)}
    keys = {*wanted(there), *there.intersection((*USUAL, *RARE))}
    return [score for score in SCORES if score.key in keys]


def left(seconds: float | None) -> str:
    """Time left as text, in whole seconds; '' when it is not known."""
    return "" if seconds is None else f"{second_text(max(1, round(seconds)))} left"


def spent(seconds: float, rest: float | None) -> str:
    """Time spent, and left where it is known, as text."""
    return ", ".join(filter(None, (f"{second_text(round(seconds))} elapsed", left(rest))))


class Lines(Tracker):
    """A line a stage and a line a round; in long rounds a line every SELDOM seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.say, self.quarter, self.said = say, 0, 0.0

    def filled(self, line: str) -> None:
        """Say it."""
        self.say(line)

    def stage(self, name: str, total: int | None = None) -> None:
        """Say which stage begins."""
        super().stage(name, total)
        self.quarter = 0
        self.say(f"{name} ({total} steps)" if total else name)

    def at(self, done: int, note: str = "") -> None:
        """Say each quarter of the stage."""
        super().at(done, note)
        quarter = 4 * done // self.stage_total if self.stage_total else 0
        if quarter > self.quarter:
            self.quarter = quarter
            took, rest = second_text(self.clock() - self.stage_start), left(self.stage_left())
            self.say("  ".join(x for x in (f"  {min(done, self.stage_total)}/{self.stage_total}", took, rest) if x))

    def notes(self, lines: Sequence[str]) -> None:
        """Say what is to be known of the data."""
        for line in lines:
            self.say(f"data: {line}")

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Say what runs."""
        super().begin(facts)
        self.say(self.heading())
        if done := int(facts.get("resumed_at") or 0):
            self.say(f"resumed after round {done - 1}")

    def phase(self, round: int, name: str) -> None:
        """The next line about it is due SELDOM seconds from now."""
        super().phase(round, name)
        self.said = self.clock()

    def within(self, done: int, total: int, doing: str) -> None:
        """Say where the round is, where nothing was said for long."""
        super().within(done, total, doing)
        if self.clock() - self.said >= SELDOM:
            self.said = self.clock()
            self.say(f"  {self.where()}, {spent(self.elapsed(), self.rounds_left())}")

    def round(self, row: Mapping[str, Any]) -> None:
        """Say the round's scores, its seconds and the time left."""
        super().round(row)
        if self.replayed(row):
            return
        parts = [f"round {self.round_number}/{self.rounds}" if self.round_number else "before"]
        parts += [second_text(self.paces[-1])] if self.round_number else []
        parts += [f"{s.name} {s.say(number(row.get(s.key)))}" for s in shown(self.first, row)]
        kept = kept_share(row)
        parts += [f"kept {kept:.0%}"] if kept is not None else []
        self.say("  ".join(x for x in (*parts, left(self.rounds_left())) if x))


class RunView(LiveView, Tracker):
    """Heading, bars and scores on a terminal."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        Tracker.__init__(self, clock)
        LiveView.__init__(self, console, clock, "stage", "rounds")

    def notes(self, lines: Sequence[str]) -> None:
        """Print above the picture what is to be known of the data."""
        for line in lines:
            self.filled(f"data: {line}")

    def picture(self) -> RenderableType:
        """Heading, bars and scores, as far as they are known."""
        from rich.console import Group
        from rich.text import Text

        times = spent(self.clock() - self.stage_start, self.stage_left())
        self.bar("stage", self.stage_name, self.stage_done, self.stage_total, times)
        done = int(self.last.get("round") or 0)
        times = spent(self.elapsed(), self.rounds_left())
        self.bar("rounds", "rounds" if self.facts else "", done, self.rounds, times)
        heading = [Text(self.heading(), style="bold")] if self.facts else []
        now = [Text(f"  {where}")] if (where := self.where()) else []
        return Group(*heading, self.bars, *now, *([self._scores()] if self.last else []))

    def _scores(self) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        for name in ("before", "now", "change"):
            table.add_column(name, justify="right")
        for score in shown(self.first, self.last):
            before, now = number(self.first.get(score.key)), number(self.last.get(score.key))
            style = {True: "green", False: "red", None: ""}[score.improved(before, now)]
            change = Text(score.say_change(before, now), style=style)
            table.add_row(score.name, score.say(before), Text(score.say(now), style="bold"), change)
        kept = kept_share(self.last)
        if kept is not None:
            table.add_row("Labels kept", "", f"{kept:.0%}", "")
        return table
