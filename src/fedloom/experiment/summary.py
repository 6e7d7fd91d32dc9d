"""The summary of a run: what summary.json holds."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom import __version__
from fedloom.config import Config
from fedloom.experiment.peers import peer_ends
from fedloom.registry import DATASETS, METHODS, METRICS
from fedloom.reporting.health import warnings_of
from fedloom.reporting.scores import SCORES, STREAMS, client_score
from fedloom.runs.disk import plain

SCORED = frozenset(score.key for score in SCORES)


def not_finite(row: Mapping[str, Any]) -> list[str]:
    """The scores and losses of a row that are NaN or infinite: the file holds null in their place."""
    named = {k: v for k, v in row.items() if k in SCORED} | (row.get("metrics") or {})
    named |= {f"loss of {k}": v for k, v in (row.get("losses") or {}).items()}
    return [k for k, v in named.items() if isinstance(v, float) and not math.isfinite(v)]


def _phases(rows: Sequence[Mapping[str, Any]], setup: float) -> dict[str, float]:
    """Seconds of each phase, summed over the rounds."""
    phases = {"setup": setup}
    for row in rows:
        for phase, value in row["seconds"].items():
            phases[phase] = phases.get(phase, 0.0) + value
    return phases


def summarise(
    config: Config,
    clients: Mapping[Any, Sequence[str]],
    rows: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
    facts: Mapping[str, Any],
    networks: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Scores before and after, bytes, seconds and memory of a whole run, and warnings on it.

    Args:
        clients: names by modality.
        rows: of metrics.jsonl, round 0 first.
        seconds: of the set-up and in total; those of the rounds' phases are summed from `rows`.
        facts: of what tells how far scores can be trusted, as `Scorer.facts` gives it.
        networks: by score, what network's features (FID) or classes (Inception score) it is taken on.
    """
    first, last = rows[0], rows[-1]
    scores = {
        s.key: {"before": first.get(s.key), "after": last.get(s.key)}
        for s in SCORES
        if s.key not in STREAMS or first.get(s.key) is not None or last.get(s.key) is not None
    }
    for modality, names in clients.items():
        each = {n: last["per_client"][n] for n in names if n in last["per_client"]}
        if (entry := scores.get(client_score(modality))) is not None:
            entry["per_client"] = each
    memory = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {
        "method": METHODS.label(config.method),
        "data": DATASETS.label(config.data.name),
        "seed": config.seed,
        "rounds": config.rounds,
        "clients": clients,
        **scores,
        **({"by_group": _by_group(first, last)} if last.get("by_group") else {}),
        **{key: last[key] for key in ("retrieval", "privacy", "vote_budget") if last.get(key)},
        **({"metrics": _added(config, first, last)} if config.evaluation.metrics else {}),
        "labels": last["labels"],
        "bytes_up": sum(row["bytes_up"] for row in rows),
        "bytes_down": sum(row["bytes_down"] for row in rows),
        "seconds": {**_phases(rows, seconds["setup"]), "total": seconds["total"]},
        "peak_memory_bytes": 1024 * max(memory),  # Linux counts in KiB
        **({"peak_device_bytes": peaks} if (peaks := device_peaks()) else {}),
        **facts,
        **({"networks": dict(networks)} if networks else {}),
        "version": __version__,
    }
    warnings = warnings_of(config.model_dump(mode="json"), plain(rows), plain(found))  # as the files hold them
    return {**found, **peer_ends(first, last), "warnings": [warning.tree() for warning in warnings]}


def _by_group(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy of each group of test samples, by task: before and after."""
    ends = {"before": first.get("by_group") or {}, "after": last["by_group"]}
    return {
        task: {name: {end: (by.get(task) or {}).get(name) for end, by in ends.items()} for name in groups}
        for task, groups in last["by_group"].items()
    }


def _added(config: Config, first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of `evaluation.metrics` by name: before and after, and how they are shown."""
    ends = {"before": first.get("metrics") or {}, "after": last.get("metrics") or {}}
    metrics = [METRICS.find(name) for name in config.evaluation.metrics]
    return {m.name: {**{end: values.get(m.name) for end, values in ends.items()}, **m.display()} for m in metrics}


def device_peaks() -> dict[str, int]:
    """Most bytes that tensors of this process have taken on each GPU; clients in worker processes are not in it."""
    import torch

    if not torch.cuda.is_available():
        return {}
    most = {f"cuda:{i}": torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())}
    return {name: peak for name, peak in most.items() if peak}
