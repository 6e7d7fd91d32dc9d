"""The head of a run in its report and on its live page: its name, what it was, its scores before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.reporting.pages import Cell
from fedloom.reporting.scores import TOLD, Score, before_after, end_of, number, series, told, wanted
from fedloom.runs import RunFiles
from fedloom.tasks import client_word


def run_name(run: RunFiles) -> str:
    """`fedmmkt on flora, seed 0`; what a damaged configuration lacks is left out."""
    config = {k: v.get("name", "?") if isinstance(v, Mapping) else v for k, v in run.config.items()}
    facts = {**config, **run.summary}
    name = str(facts.get("method") or run.path.resolve().name)
    name += f" on {facts['data']}" if "data" in facts else ""
    return name + (f", seed {facts['seed']}" if "seed" in facts else "")


def rounds_done(run: RunFiles) -> int:
    """The last round that was finished."""
    return max((int(row.get("round", 0)) for row in run.rounds), default=0)


def clients_of(run: RunFiles) -> dict[str, list[str]]:
    """Client names by modality: from the summary, else by how the names in the metrics begin."""
    known = run.summary.get("clients")
    if isinstance(known, Mapping):
        return {str(k): [str(n) for n in v] for k, v in known.items() if v}
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(n for row in run.rounds for n in row.get("per_client") or ()):
        found.setdefault(end_of(name, {}) or "other", []).append(name)
    return found


def change(score: Score, before: float | None, after: float | None) -> Cell:
    """The change, coloured and with an arrow by whether it is for the better."""
    better, text = score.improved(before, after), score.say_change(before, after)
    if better is None or before is None or after is None:
        return Cell(text)
    return Cell(f"{'▲' if after > before else '▼'} {text}", "up" if better else "down")


def head(run: RunFiles) -> dict[str, Any]:
    """Title, what it was, and the scores before and after."""
    groups = clients_of(run).items()
    clients = [f"{len(names)} {client_word(task)} client{'s' * (len(names) != 1)}" for task, names in groups]
    done, planned = rounds_done(run), number(run.config.get("rounds"))
    rounds = f"{done} round{'s' * (done != 1)}"
    if planned is not None and done < planned:
        rounds = f"{done} of {planned:.0f} rounds"
    version = run.summary.get("version") or (run.environment.get("packages") or {}).get("fedloom")
    started = run.environment.get("started")
    facts = [rounds, *clients, version and f"fedloom {version}", started and f"started {started}"]
    cards = {score.key: card for score in told(run.summary) if (card := _card(run, score))}
    missed = set(wanted(cards)).difference(cards)
    networks = run.summary.get("networks") or {}
    return {
        "name": run_name(run),
        "finished": run.finished,
        "facts": [fact for fact in facts if fact],
        "cards": list(cards.values()),
        "absent": [score.name for score in TOLD if score.key in missed],
        "judge": number((run.summary.get("judge") or {}).get("real_test_accuracy")),
        "networks": networks if {"fid", "inception_score"} <= networks.keys() else None,
    }


def _card(run: RunFiles, score: Score) -> dict[str, Any] | None:
    before, after = before_after(score, run.summary, run.rounds)
    if before is None and after is None:
        return None
    return {
        "name": score.name,
        "note": score.note,
        "before": score.say(before),
        "after": score.say(after),
        "change": change(score, before, after),
        "curve": series(run.rounds, *score.path)[1],
    }
