"""What the report and `fedloom inspect` say of the privacy that each client, and the clients' votes, have spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.reporting.pages import Table
from fedloom.reporting.scores import number

HEAD = ("client", "epsilon", "of", "at delta", "private steps", "refused", "epsilon of answers", "at delta", "answers")

# Of `methods.vote_budget`: key of metrics.jsonl to column.
VOTES = {
    "epsilon": "epsilon",
    "budget": "of",
    "delta": "at delta",
    "asked": "samples asked about",
    "answered": "labelled",
    "refused": "not asked about any more",
    "epsilon_independent": "epsilon for any votes",
}


def spent_by_client(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """client -> what it told last, by the names of `privacy.accounting.TERMS`; {} where clients are not private."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rounds:
        told = row.get("privacy")
        if isinstance(told, Mapping):
            found |= {str(k): v for k, v in told.items() if isinstance(v, Mapping)}
    return found


def budget_lines(rounds: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line a client, as `HEAD` names it; "–" where it has no such budget."""
    keys = ("epsilon", "budget", "delta", "steps", "refused", "answers_epsilon", "answers_delta", "answers")

    def shown(told: Mapping[str, Any], key: str) -> str:
        value = number(told.get(key))
        return "–" if value is None else f"{value:.3g}" if "epsilon" in key or "delta" in key else f"{value:g}"

    return [[client, *(shown(told, key) for key in keys)] for client, told in spent_by_client(rounds).items()]


def spent_on_votes(rounds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the noisy votes of the run have cost, by the names of `VOTES`; {} where there are none."""
    told = [row["vote_budget"] for row in rounds if isinstance(row.get("vote_budget"), Mapping)]
    return told[-1] if told else {}


def vote_line(rounds: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and line of a table of it; no line where there are no noisy votes."""
    found = {key: number(value) for key, value in spent_on_votes(rounds).items() if key in VOTES}
    shown = {
        VOTES[k]: f"{v:.3g}" if "epsilon" in k or k == "delta" else f"{v:g}" for k, v in found.items() if v is not None
    }
    return list(shown), [list(shown.values())] if shown else []


def vote_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """The same for the report."""
    head, lines = vote_line(rounds)
    return Table([name.capitalize() for name in head], lines, numbers=range(len(head)))


def budget_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """The same for the report."""
    return Table([name.capitalize() for name in HEAD], budget_lines(rounds), numbers=range(1, len(HEAD)))
