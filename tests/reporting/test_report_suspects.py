"""The report's table of clients whose answers are unlike the others'."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fedloom.reporting.suspects import suspects


def standing(*marks: str, norm: float | None = 1.0, out: bool = False) -> dict[str, Any]:
    return {"norm": norm, "agreement": 0.5, "distance": None, "stands_out": list(marks), "left_out": out}


def cells(*rounds: Any) -> list[list[str]]:
    run: Any = SimpleNamespace(rounds=[{"round": 0}, *({"round": t, "suspects": r} for t, r in enumerate(rounds, 1))])
    return [[cell.text for cell in row] for row in suspects(run).rows]


def test_rounds_are_counted_and_the_last_figures_shown() -> None:
    first = {"text-0": standing(), "image-0": standing("norm", "distance", norm=123.4)}
    second = {"text-0": standing(), "image-0": standing("agreement", norm=2.0)}
    assert cells(first, second) == [
        ["image-0", "2", "0.5", "–", "2 of 2", "norm, agreement, distance"],
        ["text-0", "1", "0.5", "–", "0 of 2", ""],
    ]


def test_who_is_left_out_keeps_the_figures_of_before() -> None:
    assert cells({"a": standing("norm", norm=9.0)}, {"a": standing(norm=None, out=True)}) == [
        ["a", "9", "0.5", "–", "1 of 1", "norm; left out"]
    ]


def test_runs_of_before_and_damaged_ones() -> None:
    assert cells() == []
    assert cells(None, 3, {"a": 7}) == []
    assert cells({"a": {"stands_out": "norm", "norm": "x"}}) == [["a", "–", "–", "–", "0 of 1", ""]]
