"""What a comparison can show of a cell: the scores of a run, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedloom.reporting.scores import RECALLS, SCORES, STREAMS, number

Rows = Sequence[Mapping[str, Any]]
TO_TARGET = "rounds_to_target"


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    decimals: of the figures shown. cost: bytes or seconds, which are shown but make nobody the best.
    """

    key: str
    name: str
    note: str
    decimals: int = 3
    lower_is_better: bool = False
    cost: bool = False


_OF_RUNS = [
    Measure(
        s.key,
        s.name,
        s.note,
        s.decimals,
        s.lower_is_better,
    )
    for s in SCORES
]
_MORE = (
    Measure(
        "average_accuracy",
        "All clients",
        "mean of image, text and multimodal clients, or of those there are; recall of image-text clients is not in it",
    ),
    Measure(TO_TARGET, "Rounds to target", "until a score is as good as the plan's target", 1, True, True),
    Measure("bytes_up", "Bytes up", "from all clients, mean of a round", 1, True, True),
    Measure("bytes_down", "Bytes down", "to all clients, mean of a round", 1, True, True),
    Measure("seconds", "Seconds", "of all rounds, without set-up and scoring", 1, True, True),
)
ADDED = "metrics."  # begins the keys of metrics that were added to runs


class _Measures(dict[str, Measure]):
    """Measures by key. A metric of `evaluation.metrics` is known by its name before anything else is said of it."""

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, str) and key.startswith(ADDED))

    def __missing__(self, key: str) -> Measure:
        if key not in self:
            raise KeyError(key)
        return Measure(key, key.removeprefix(ADDED), "")

    def add(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Take up metrics by name, as a run's summary shows them."""
        for name, m in metrics.items():
            lower = m.get("higher_is_better") is False
            self[ADDED + name] = Measure(ADDED + name, str(m["title"]), str(m["note"]), 3, lower)


MEASURES = _Measures({m.key: m for m in (*_OF_RUNS, *_MORE)})
ACCURACIES = tuple(s.key for s in SCORES)
TARGETS = (*ACCURACIES, "average_accuracy")  # what a target can be of
RARE = (*RECALLS, *STREAMS, TO_TARGET)  # of few comparisons: no column where nobody has them


def average(values: Mapping[str, Any]) -> float | None:
    """The mean of image, text and joint accuracy, or of those there are."""
    there = [v for k in ("image", "text", "joint") if (v := number(values.get(f"{k}_accuracy"))) is not None]
    return sum(there) / len(there) if there else None


def curve(rows: Rows, seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Every round's scores, with the bytes and seconds up to its end.

    Args:
        rows: of metrics.jsonl.
        seconds: wall and processor seconds of each round, by its number as text; for a round that is not there, the
            phases that its row tells are taken.
    """
    out, up, down, wall = [], 0, 0, 0.0
    for row in sorted(rows, key=lambda r: int(r["round"])):
        t = int(row["round"])
        if t > 0:  # round 0 is the state before: what it sends is set-up
            up, down = up + int(row["bytes_up"]), down + int(row["bytes_down"])
            phases = {k: float(v) for k, v in (row.get("seconds") or {}).items() if k != "evaluation"}
            wall += seconds[str(t)][0] if str(t) in seconds else sum(phases.values())
        point = {key: number(row.get(key)) for key in ACCURACIES}
        point["average_accuracy"] = average(row)
        point |= {f"{ADDED}{name}": number(value) for name, value in (row.get("metrics") or {}).items()}
        out.append({"round": t, **point, "bytes_up": up, "bytes_down": down, "seconds": wall})
    return out


def rounds_to(points: Sequence[Mapping[str, Any]], score: str, value: float) -> int | None:
    """The first round, of those that were scored, after which a score is at least as good as `value`; None: never."""
    sign = -1 if MEASURES[score].lower_is_better else 1
    reached = (p["round"] for p in points if p[score] is not None and sign * p[score] >= sign * value)
    return next(reached, None)


def before_and_after(
    points: Sequence[Mapping[str, Any]], target: tuple[str, float] | None = None
) -> dict[str, dict[str, float | None]]:
    """Every measure before the first round and after the last; costs have no before.

    Args:
        target: score and value for `rounds_to`.
    """
    first, last = points[0], points[-1]
    rounds = max(1, int(last["round"]))
    keys = [k for k in (*MEASURES, *first) if k in MEASURES and not MEASURES[k].cost]
    found = {k: {"before": first.get(k), "after": last.get(k)} for k in dict.fromkeys(keys) if k in first}
    for key in ("bytes_up", "bytes_down"):
        found[key] = {"before": None, "after": last[key] / rounds}
    found["seconds"] = {"before": None, "after": last["seconds"]}
    found[TO_TARGET] = {"before": None, "after": rounds_to(points, *target) if target else None}
    return found
