"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedloom.formatting import byte_text
from fedloom.reporting.ledger import DIRECTIONS, flows
from fedloom.reporting.pages import TRUST
from fedloom.reporting.scores import before_after, told

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from fedloom.reporting.health import RunWarning

# Warnings that are told, and the most that are told with what to do: more would be a wall that nobody reads.
MOST, ADVISED = 8, 3


def summary_table(summary: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]] = ()) -> Table:
    """Scores before and after, one a line; what a run has no end for is left out.

    Args:
        summary: `summary.json`; may be empty while the run goes on, then `rounds` speak.
    """
    from rich.table import Table
    from rich.text import Text

    title = " ".join(str(summary[k]) for k in ("method", "data") if k in summary)
    if "seed" in summary:
        title += f", seed {summary['seed']}"
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column("score")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for score in told(summary):
        before, after = before_after(score, summary, rounds)
        if before is None and after is None:
            continue
        style = {True: "green", False: "red", None: ""}[score.improved(before, after)]
        change = Text(score.say_change(before, after), style=style)
        table.add_row(score.name, score.say(before), Text(score.say(after), style="bold"), change)
    return table


def warning_lines(warnings: Sequence[RunWarning]) -> list[Text]:
    """A line for each warning under a heading, the serious ones first; what to do about them where they are few."""
    from rich.text import Text

    if not warnings:
        return []
    lines = [Text(f"{TRUST}:", style="bold")]
    for w in warnings[:MOST]:
        line = Text("  ").append(w.name, style="bold red" if w.level == "serious" else "bold yellow")
        line.append(f": {w.message}")
        if len(warnings) <= ADVISED:
            line.append(f". {w.advice}")
        lines.append(line)
    rest = [w.name for w in warnings[MOST:]]
    if rest:
        lines.append(Text(f"  and {', '.join(rest)}"))
    if len(warnings) > ADVISED:
        lines.append(Text("  what to do about each is in the report", style="dim"))
    return lines


def ledger_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """What left each client, and what came to it: a line for each client, direction, verb and field.

    Messages that the totals leave out (set-up, which the papers do not count) say so, and are dim.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in ("client", "direction", "verb", "message", "field", "dtype", "shape"):
        table.add_column(column, overflow="fold")
    for column in ("messages", "bytes"):
        table.add_column(column, justify="right")
    table.add_column("counted")
    last = ""
    for flow in flows(rows):
        if last and flow.client != last:
            table.add_section()
        cells = [
            flow.client if flow.client != last else "",
            DIRECTIONS.get(flow.direction, flow.direction),
        ]
        cells += [
            flow.verb,
            flow.message,
            flow.name,
            flow.dtype,
            flow.shape,
            str(flow.messages),
            byte_text(flow.bytes),
            "yes" if flow.counted else "no",
        ]
        table.add_row(*map(Text, cells), style=None if flow.counted else "dim")
        last = flow.client
    return table
