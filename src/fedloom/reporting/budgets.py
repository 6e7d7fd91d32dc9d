"""What the report and `fedloom inspect` say of the privacy that each client has spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.reporting.pages import Table
from fedloom.reporting.scores import number

HEAD = ("client", "epsilon", "of", "at delta", "private steps", "refused", "epsilon of answers", "at delta", "answers")


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


def budget_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """The same for the report."""
    return Table([name.capitalize() for name in HEAD], budget_lines(rounds), numbers=range(1, len(HEAD)))
