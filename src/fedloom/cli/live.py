"""What a run shows while it goes on: a live picture on a terminal, plain lines elsewhere. Both go to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedloom.progress import Observer
from fedloom.reporting.scores import OWN, RECALLS, SCORES, USUAL, Score, number, second_text, wanted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

BAR = 30  # columns
RARE = (*RECALLS, "joint_accuracy", "server_accuracy", *OWN)  # shown where they are


class Tracker(Observer):
    """Keeps what a run told: facts, stage, round, scores, pace. Subclasses draw it.

    clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.facts: dict[str, Any] = {}
        self.stage_name, self.stage_total, self.stage_done, self.stage_note = "starting", 0, 0, ""
        self.stage_start = self.mark = clock()
        self.round_number, self.phase_name = 0, ""
        self.first: Mapping[str, Any] = {}
        self.last: Mapping[str, Any] = {}
        self.paces: list[float] = []  # seconds of each round done in this process

    def filled(self, line: str) -> None:
        """Say it on stderr, also where no progress is shown."""
        sys.stderr.write(f"{line}\n")

    def stage(self, name: str, total: int | None = None) -> None:
        """Take down the stage."""
        self.stage_name, self.stage_total, self.stage_done, self.stage_note = name, total or 0, 0, ""
        self.stage_start = self.clock()

    def at(self, done: int, note: str = "") -> None:
        """Take down how far the stage is."""
        self.stage_done, self.stage_note = done, note

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Take down the facts; from here on rounds count."""
        self.facts, self.stage_name, self.mark = dict(facts), "", self.clock()

    def phase(self, round: int, name: str) -> None:
        """Take down where the run is."""
        self.round_number, self.phase_name = round, name

    def round(self, row: Mapping[str, Any]) -> None:
        """Take down the scores and the seconds of the round, unless it is from before a resumption."""
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

    def rounds_left(self) -> float | None:
        """Seconds to the last round's end at the mean pace so far."""
        missing = self.rounds - int(self.last.get("round") or 0)
        if not self.paces or missing <= 0:
            return None
        pace = sum(self.paces) / len(self.paces)
        return max(0.0, pace * missing - (self.clock() - self.mark))

    def heading(self) -> str:
        """Method, data, clients and folder in a line."""
        groups: Mapping[str, Sequence[str]] = self.facts.get("clients") or {}
        clients = " + ".join(f"{len(names)} {modality}" for modality, names in groups.items() if names)
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


class Lines(Tracker):
    """A line a stage and a line a round."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.say, self.quarter = say, 0

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
            spent, rest = second_text(self.clock() - self.stage_start), left(self.stage_left())
            self.say("  ".join(x for x in (f"  {min(done, self.stage_total)}/{self.stage_total}", spent, rest) if x))

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


class Picture(Tracker):
    """A picture that is drawn again as the run goes on. Use it as a context."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        from rich.live import Live

        # The picture is made anew at every refresh, so that time runs on within a round.
        self.live = Live(get_renderable=self.picture, console=console, refresh_per_second=4)

    def __enter__(self) -> Picture:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def notes(self, lines: Sequence[str]) -> None:
        """Say above the picture what is to be known of the data."""
        for line in lines:
            self.live.console.print(f"data: {line}", markup=False, soft_wrap=True)

    def filled(self, line: str) -> None:
        """Say it above the picture."""
        self.live.console.print(line, markup=False, highlight=False)

    def picture(self) -> RenderableType:
        """Heading, bars and scores, as far as they are known."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        if self.facts:
            parts.append(Text(self.heading(), style="bold"))
        if self.stage_name:
            parts.append(self._bar(self.stage_name, self.stage_done, self.stage_total, self.stage_left()))
        if self.facts:
            done = int(self.last.get("round") or 0)
            parts.append(self._bar("rounds", done, self.rounds, self.rounds_left(), self._now()))
        if self.last:
            parts.append(self._scores())
        return Group(*parts)

    def _now(self) -> str:
        name = self.phase_name
        return f"round {self.round_number}" if name == "round" else f"round {self.round_number}: {name}"

    def _bar(self, name: str, done: int, total: int, rest: float | None, note: str = "") -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        line = Table.grid(padding=(0, 1))
        if not total:
            line.add_row(
                Spinner("dots", speed=0.5),
                Text(name),
                Text(second_text(round(self.clock() - self.stage_start))),
            )
            return line
        cells = [f"{min(done, total)}/{total}", left(rest), note]
        line.add_row(Text(name), ProgressBar(total, min(done, total), width=BAR), *(Text(c) for c in cells if c))
        return line

    def _scores(self) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        for name in ("before", "now", "change"):
            table.add_column(name, justify="right")
        for score in shown(self.first, self.last):
            table.add_row(score.name, *self._cells(score, Text))
        kept = kept_share(self.last)
        if kept is not None:
            table.add_row("Labels kept", "", f"{kept:.0%}", "")
        return table

    def _cells(self, score: Score, text: Any) -> list[Any]:
        before, now = number(self.first.get(score.key)), number(self.last.get(score.key))
        style = {True: "green", False: "red", None: ""}[score.improved(before, now)]
        change = text(score.say_change(before, now), style=style)
        return [score.say(before), text(score.say(now), style="bold"), change]
