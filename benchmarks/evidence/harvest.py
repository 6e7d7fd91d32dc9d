"""The row of a finished run, from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evidence.machine import machine
from evidence.rows import LABELS, VERSIONS, columns, text_of
from evidence.studies import Study
from fedloom.runs.disk import read_lines, read_object

CLIENT = "per_client."  # how the score of one client begins


def row_of(
    study: Study, arm: str, seed: int, folder: Path, *, settings: str, cpu_seconds: float | None, commit: str
) -> dict[str, str]:
    """Every column of the study's file, as text.

    Args:
        folder: of the finished run.
        settings: as `Study.settings_text` says them.
        cpu_seconds: of the run's processes.
    """
    summary = read_object(folder / "summary.json")
    rounds = read_lines(folder / "metrics.jsonl")
    about = read_object(folder / "environment.json")
    found: dict[str, Any] = {"study": study.name, "arm": arm, "seed": str(seed), "settings": settings}
    for score in study.scores:
        ends = _of_client(rounds, score) if score.startswith(CLIENT) else _ends(summary, score)
        found |= {f"{score}_before": text_of(ends.get("before")), score: text_of(ends.get("after"))}
    found |= labels_of(rounds)
    after = [r for r in rounds if r["round"] > 0]
    for key in ("bytes_up", "bytes_down"):  # what round 0 sends is set-up
        found[key] = text_of(fmean(r[key] for r in after) if after else None)
    seconds = summary["seconds"]
    found |= {"seconds": f"{seconds['total']:.1f}", "setup_seconds": f"{seconds['setup']:.1f}"}
    found["cpu_seconds"] = "" if cpu_seconds is None else f"{cpu_seconds:.1f}"
    packages = {**about.get("packages", {}), "python": about.get("python")}
    found |= {name: packages.get(name) or "" for name in VERSIONS}
    found |= {"curve": curve_of(rounds, list(study.scores)), "commit": commit, **machine()}
    found["date"] = str(about.get("started", ""))[:10]
    return {name: found[name] for name in columns(list(study.scores))}


def _ends(summary: Mapping[str, Any], score: str) -> Mapping[str, Any]:
    """Before and after of a score, an added metric (`metrics.NAME`) or a group (`by_group.image.NAME`)."""
    found = _at(summary, score)
    return found if isinstance(found, Mapping) else {}


def _of_client(rounds: Sequence[Mapping[str, Any]], score: str) -> Mapping[str, Any]:
    """Before and after of one client (`per_client.NAME`)."""
    name = score.removeprefix(CLIENT)
    return {"before": rounds[0]["per_client"].get(name), "after": rounds[-1]["per_client"].get(name)}


def _at(tree: Any, path: str) -> Any:
    """What a tree has at a dotted path, None where there is nothing."""
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def labels_of(rounds: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the labels of synthetic samples were like in round 1, and in the mean of the rounds that have a figure."""
    each = [r.get("labels") or {} for r in rounds if r["round"] > 0]
    found = {}
    for label in LABELS:
        values = [r[label] for r in each if r.get(label) is not None]
        found[f"{label}_round1"] = text_of(each[0].get(label) if each else None)
        found[f"{label}_mean"] = text_of(fmean(values) if values else None)
    return found


def curve_of(rounds: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> str:
    """`clip_score=0.41/0.7/0.76; ...`: each score round by round, round 0 first, a dash where it was not scored."""
    parts = []
    for score in scores:
        values = [_at(r, score) for r in rounds]
        texts = [f"{v:.6g}" if isinstance(v, int | float) else "-" for v in values]
        if set(texts) != {"-"}:
            parts.append(f"{score}={'/'.join(texts)}")
    return "; ".join(parts)
