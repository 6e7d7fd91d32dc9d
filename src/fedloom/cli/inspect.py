"""`fedloom inspect`: what left each client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedloom.cli.options import JsonOption, RunArgument
from fedloom.cli.screen import grid, show, show_json

COUNTS = ("bytes_up", "bytes_down", "encoded_up", "encoded_down")
FORMULAS = ("formula_up", "formula_down")


def inspect(run: RunArgument, json: JsonOption = False) -> None:
    """Show what left each client.

    Field by field, with what came to it, and the bytes of every round.
    Bytes are those of the values, which is what papers count; with headers they are "as sent". Messages of
    evaluation and set-up are listed but not counted.

    Of private clients (clients.privacy) also what each has spent; of noisy votes (fedmmkt-pate) what they have cost;
    where clients come and go (participation), who took part in which round.

    Example: fedloom inspect runs/fedmmkt-flora-0 --json
    """
    from fedloom.formatting import byte_text
    from fedloom.reporting.budgets import HEAD, budget_lines, spent_by_client, spent_on_votes, vote_line
    from fedloom.reporting.ledger import DIRECTIONS, flows
    from fedloom.reporting.participants import HEAD as TIMELINE
    from fedloom.reporting.participants import LEGEND, timeline
    from fedloom.reporting.text import ledger_table
    from fedloom.results import load_run

    loaded = load_run(run)
    rounds = per_round(loaded.ledger, loaded.rounds)
    private, there = spent_by_client(loaded.rounds), timeline(loaded.rounds)
    total = {key: sum(row[key] for row in rounds) for key in COUNTS}
    if json:
        keys = ("client", "direction", "verb", "message", "name", "dtype", "shape", "messages", "bytes", "counted")
        parts = [{key: getattr(flow, key) for key in keys} for flow in flows(loaded.ledger, arrays=True)]
        took_part = {row["round"]: row["participants"] for row in loaded.rounds if "participants" in row}
        more = {"privacy": private, "vote_budget": spent_on_votes(loaded.rounds), "participants": took_part}
        told = {key: value for key, value in more.items() if value}
        show_json({"run": str(loaded.path), "total": total, "rounds": rounds, "flows": parts, **told})
        return
    if private:
        show(grid(HEAD, budget_lines(loaded.rounds), numbers=range(1, len(HEAD))))
    head, lines = vote_line(loaded.rounds)
    if lines:
        show("Votes:", grid(head, lines, numbers=range(len(head))))
    if there:
        show(grid(TIMELINE, there, numbers=(2, 3, 4)), LEGEND)
    if not loaded.ledger:
        show(f"Nothing crossed: run {loaded.path} has exchanged no message.")
        return
    names = ("round", "up", "down", "up as sent", "down as sent", "paper's formula up", "down")
    lines = [[row["round"], *(byte_text(row[k]) for k in (*COUNTS, *FORMULAS))] for row in rounds]
    lines.append(["all", *(byte_text(total[k]) for k in COUNTS), "", ""])
    show(
        ledger_table(loaded.ledger),
        grid(names, lines, numbers=range(1, len(names))),
        f"up: {DIRECTIONS['up']}; down: {DIRECTIONS['down']}; the totals leave out what is not counted",
    )


def per_round(ledger: Iterable[Mapping[str, Any]], rounds: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bytes of the counted messages of every round, and the paper's formula where the method gives one."""
    formulas = {row.get("round"): row for row in rounds}
    sums: dict[int, dict[str, Any]] = {}
    for row in ledger:
        entry = sums.setdefault(row["round"], {"round": row["round"], **dict.fromkeys(COUNTS, 0)})
        if row.get("counted", True):
            entry[f"bytes_{row['direction']}"] += int(row.get("payload_bytes") or 0)
            entry[f"encoded_{row['direction']}"] += int(row.get("encoded_bytes") or 0)
    for number, entry in sums.items():
        entry |= {key: formulas.get(number, {}).get(key) for key in FORMULAS}
    return [sums[number] for number in sorted(sums)]
