"""What the report on one run shows, as data for the template `run_body.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedloom.reporting.accounts import missing, origin, time, wire
from fedloom.reporting.audits import audit_facts
from fedloom.reporting.budgets import budget_table, vote_table
from fedloom.reporting.facts import method_facts
from fedloom.reporting.heads import change, clients_of, head
from fedloom.reporting.health import run_warnings
from fedloom.reporting.heatmaps import split_picture
from fedloom.reporting.pages import Cell, Image, Table, drawn, picture_file, warning_name
from fedloom.reporting.participants import LEGEND, participants
from fedloom.reporting.plots import curves, label_curves
from fedloom.reporting.scores import (
    SCORES,
    Score,
    client_score,
    kinds_of,
    number,
    series,
)
from fedloom.reporting.streams import streams
from fedloom.reporting.suspects import suspects
from fedloom.reporting.votes import class_votes
from fedloom.runs import RunFiles
from fedloom.tasks import ClientTask, client_word

STRIP = 12  # pictures in the strip of rounds
SERVER = "server"  # its name among those of the clients
RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")


def report_facts(run: RunFiles, base: str = "") -> dict[str, Any]:
    """Everything that the report on a run shows; parts that the run has nothing for are None or empty.

    base: of the run's folder, as links of the page begin.
    """
    retrieved, when = retrieval(run)
    return {
        **head(run),
        "warnings": doubts(run),
        "serious": any(w.level == "serious" for w in run_warnings(run)),
        "data_notes": run.summary.get("data_notes") or (),
        "samples": _samples(run.samples),
        "panel": (_round(run.label_panels[-1]), picture_file(run.label_panels[-1], "label panel"))
        if run.label_panels
        else None,
        "label_curves": _label_curves(run),
        "votes": class_votes(run),
        "method_facts": [] if kinds_of(run.rounds) else method_facts(run.rounds),
        "curves": _curves(run),
        "streams": streams(run),
        "retrieval": retrieved,
        "retrieval_when": when,
        "clients": _clients(run),
        "participants": participants(run.rounds),
        "participants_legend": LEGEND,
        "suspects": suspects(run),
        "wire": wire(run),
        "time": time(run),
        "missing": missing(run),
        "budgets": budget_table(run.rounds),
        "vote_budget": vote_table(run.rounds),
        "audit": audit_facts(run),
        "rounds": run.rounds,
        "origin": origin(run, base),
    }


def doubts(run: RunFiles) -> Table:
    """Why scores may not mean what they seem to, and what to do."""
    rows = [(warning_name(w.name, w.level), w.message, w.advice) for w in run_warnings(run)]
    return Table(("Warning", "What was found", "What to do"), rows)


def _curves(run: RunFiles) -> Image | None:
    if not any(series(run.rounds, score.key)[0] for score in SCORES):
        return None
    return drawn(partial(curves, run.rounds, clients=clients_of(run)), "scores over rounds")


def _label_curves(run: RunFiles) -> Image | None:
    """The accuracy of labels."""
    if not any(series(run.rounds, "labels", key)[0] for key in ("prompt_accuracy", "voted_accuracy", "kept_share")):
        return None
    return drawn(partial(label_curves, run.rounds), "accuracy of labels over rounds")


def _samples(paths: Sequence[Path]) -> dict[str, Any] | None:
    """The first and the last grid, and a strip of all."""
    if not paths:
        return None
    shown = [paths[0]] if len(paths) == 1 else [paths[0], paths[-1]]
    step = max(1.0, (len(paths) - 1) / (STRIP - 1))
    chosen = [paths[round(i * step)] for i in range(min(STRIP, len(paths)))] if len(paths) > 2 else []
    return {
        "ends": [(_round(p), picture_file(p, _round(p))) for p in shown],
        "strip": [(_round(p), picture_file(p, _round(p), height=300)) for p in chosen],
    }


def _round(path: Path) -> str:
    number = int(path.stem.rpartition("_")[2])
    return f"Round {number}{' (before)' if number == 0 else ''}"


def _clients(run: RunFiles) -> dict[str, Any]:
    """Accuracy of each client, and what each holds."""
    ends = clients_of(run)
    rows, score = [], SCORES[0]  # all are shown as shares
    for end, names in ends.items():
        after_all = (run.summary.get(client_score(end)) or {}).get("per_client") or {}
        for name in names:
            values = series(run.rounds, "per_client", name)[1]
            before = values[0] if values else None
            after = number(after_all.get(name)) if name in after_all else (values[-1] if values else None)
            rows.append((name, end, score.say(before), score.say(after), change(score, before, after)))
    split, picture = run.split, None
    if split and isinstance(split.get("clients"), Mapping) and split["clients"] and split.get("classes"):
        names, counts = list(split["clients"]), list(split["clients"].values())
        picture = drawn(partial(split_picture, counts, names, split["classes"]), "samples by client and class")
    table = Table(("Client", "Holds", "Before", "After", "Change"), rows, numbers=(2, 3, 4))
    return {
        "pairs": ClientTask.RETRIEVAL in ends,
        "joint": ClientTask.MULTIMODAL_CLASSIFICATION in ends,
        "table": table,
        "groups": _by_group(run, score),
        "split": picture,
    }


def _by_group(run: RunFiles, score: Score) -> Table | None:
    """Accuracy on each group of test samples, mean over clients; None where test samples have no groups."""
    rows = []
    for task, each in (run.summary.get("by_group") or {}).items():
        for name, ends in each.items():
            before, after = number(ends.get("before")), number(ends.get("after"))
            rows.append((name, client_word(task), score.say(before), score.say(after), change(score, before, after)))
    head = ("Test samples of", "Clients", "Before", "After", "Change")
    return Table(head, rows, numbers=(2, 3, 4)) if rows else None


def retrieval(run: RunFiles) -> tuple[Table, str]:
    """Recalls of the clients with pairs and of the server in the last round that was scored, and which that is."""
    found, when = run.summary.get("retrieval"), "After the last round"
    for row in reversed(run.rounds):
        if isinstance(row.get("retrieval"), Mapping) and row["retrieval"]:
            found, when = row["retrieval"], f"After round {row.get('round', '?')}"
            break
    found = found if isinstance(found, Mapping) else {}
    names = sorted(found, key=lambda name: name == SERVER)  # the server last, clients in their order
    rows = [_recalls(name, found[name]) for name in names if isinstance(found[name], Mapping)]
    head = ("Model", "i2t R@1", "R@5", "R@10", "t2i R@1", "R@5", "R@10", "Sum of R@1", "Gallery", "Folds")
    return Table(head, rows, numbers=range(1, len(head))), when


def _recalls(name: str, recalls: Mapping[str, Any]) -> list[object]:
    """A line of the table; an en dash for what is not known."""
    shares = [number(recalls.get(key)) for key in RECALLS]
    total = None if shares[0] is None or shares[3] is None else shares[0] + shares[3]
    images, folds = number(recalls.get("images")), number(recalls.get("folds")) or 1.0
    texts = ["–" if share is None else f"{share:.3f}" for share in (*shares, total)]
    gallery = "–" if images is None else f"{images / folds:.0f}"
    return [name, *texts[:-1], Cell(texts[-1], bold=True), gallery, f"{folds:.0f}"]
