"""What is listed of a run among others: what it is, how far it is, its scores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fedloom.reporting.scores import SCORES, before_after, told
from fedloom.runs.load import RunFiles


def run_entry(run: RunFiles) -> dict[str, Any]:
    """run, method, data, seed, round, rounds, state, scores (after, by key), when (of the last change, ISO 8601)."""
    data = run.config.get("data")
    done = max((int(row.get("round", 0)) for row in run.rounds), default=None)
    scores = {score.key: before_after(score, run.summary, run.rounds)[1] for score in told(run.summary)}
    state = "not scored yet" if done is None else "unfinished"
    if run.finished:
        state = "finished" if (run.path / "report.html").is_file() else "finished, no report"
    changed = max(
        (run.path / name).stat().st_mtime
        for name in ("config.yaml", "metrics.jsonl", "summary.json")
        if (run.path / name).exists()
    )
    return {
        "run": str(run.path),
        "method": run.config.get("method"),
        "data": data.get("name") if isinstance(data, dict) else data,
        "seed": run.config.get("seed"),
        "round": done,
        "rounds": run.config.get("rounds"),
        "state": state,
        "scores": {key: value for key, value in scores.items() if value is not None},
        "when": datetime.fromtimestamp(changed).astimezone().isoformat(timespec="seconds"),
    }


def score_texts(entry: dict[str, Any], most: int = 3) -> str:
    """The first scores of an entry, as people read them."""
    named = {score.key: score for score in SCORES}
    texts = [f"{named[key].name} {named[key].say(value)}" for key, value in entry["scores"].items() if key in named]
    return ", ".join(texts[:most])


def round_text(entry: dict[str, Any]) -> str:
    """`3/10`; a dash before round 0 is scored."""
    return f"{'–' if entry['round'] is None else entry['round']}/{entry['rounds']}"
