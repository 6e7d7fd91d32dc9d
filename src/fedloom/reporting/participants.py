"""Who took part in which round, as a line a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.reporting.pages import Table

SIGNS = {"present": "●", "late": "◐", "away": "○", "awaited": "·", "gone": "×"}
LEGEND = "● there, ◐ too late, ○ away, · not yet there, × gone"
HEAD = ("Client", "Rounds", "There", "Too late", "Away")


def timeline(rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Of each client its rounds from the first on, a sign each, and how many of a kind; nothing where all always were.

    Args:
        rounds: lines of metrics.jsonl.
    """
    told = [row["participants"] for row in rounds if isinstance(row.get("participants"), Mapping)]
    states = [
        {str(name): state for state in SIGNS for name in (each.get(state) if isinstance(each.get(state), list) else ())}
        for each in told
    ]
    found = []
    for name in sorted({name for each in states for name in each}):
        own = [each.get(name, "") for each in states]
        there, late, away = (str(own.count(state)) for state in ("present", "late", "away"))
        found.append((name, "".join(SIGNS.get(state, " ") for state in own), there, late, away))
    return found


def participants(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """The same as a table."""
    return Table(HEAD, timeline(rounds), numbers=(2, 3, 4))
