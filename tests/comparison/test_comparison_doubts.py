"""What makes a comparison doubtful, and who may be called the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedloom.comparison.doubts import doubts_of, place_text
from fedloom.comparison.grids import grids, legend
from fedloom.comparison.page import write_page
from fedloom.comparison.plan import ComparisonPlan
from fedloom.comparison.results import Comparison, compose, table_of
from fedloom.comparison.statistics import clear_best
from fedloom.comparison.tables import markdown, terminal

ROWS = ("A", "B", "C")


def judge(level: str = "serious") -> dict[str, Any]:
    message = "the judge is right on 40% of 40 real test pictures"
    return {"name": "judge-unreliable", "level": level, "message": message, "advice": "Raise it."}


def record(row: str, seed: int, value: float, *warnings: dict[str, Any]) -> dict[str, Any]:
    times = dict.fromkeys(
        (
            "seconds",
            "cpu_seconds",
            "setup_seconds",
            "setup_cpu_seconds",
            "pretraining_seconds",
            "warm_start_seconds",
        )
    )
    scores = {"image_accuracy": {"before": 0.1, "after": value}}
    place = {
        "row": row,
        "column": "",
        "seed": seed,
        "folder": f"cells/{row}{seed}",
        "version": "1",
        "error": None,
    }
    return {**place, "state": "done", "scores": scores, "rounds": [], "warnings": list(warnings), **times}


def compared(values: dict[str, list[float]], *warned: str, reference: str | None = "A") -> Comparison:
    """Rows with a value for each seed; those in `warned` ("A1") have a warning."""
    seeds = tuple(range(len(next(iter(values.values())))))
    rows = tuple({"name": r, "method": "standalone"} for r in values)
    plan = ComparisonPlan(title="T", seeds=seeds, reference=reference, scores=("image_accuracy",), rows=rows)  # type: ignore[arg-type]
    records = [
        record(r, s, v, *([judge()] if f"{r}{s}" in warned else []))
        for r, vs in values.items()
        for s, v in enumerate(vs)
    ]
    return Comparison(Path("nowhere"), compose(plan, records, [], name="t"))


BETTER = {"A": [0.50, 0.52, 0.51], "B": [0.60, 0.62, 0.611], "C": [0.70, 0.72, 0.712]}
EVEN = {"A": [0.50, 0.52, 0.51], "B": [0.52, 0.50, 0.53], "C": [0.60, 0.48, 0.49]}


def text_of(found: Comparison) -> str:
    with (screen := Console(width=200, color_system=None)).capture() as shown:
        screen.print(*terminal(found, 200))
    return shown.get()


def test_the_best_is_better_than_every_other() -> None:
    found = compared(BETTER)
    assert [e["row"] for e in found.tree["table"] if e["best"]] == ["C"]
    assert found.warnings == []
    assert "**0.711 ± 0.010**" in markdown(found)
    assert "Bold: better than every other row of its column, by two-sided paired t-tests" in legend(
        found, grids(found)[0]
    )
    assert "Before you trust" not in text_of(found)


@pytest.mark.parametrize("values", [EVEN, {**BETTER, "B": BETTER["C"]}, {r: v[:1] for r, v in BETTER.items()}])
def test_nobody_is_the_best_among_equals(values: dict[str, list[float]]) -> None:
    """Where intervals hold 0, where two rows are the same, with one seed."""
    found = compared(values)
    assert not any(e["best"] for e in found.tree["table"])
    assert "**" not in markdown(found)
    said = legend(found, grids(found)[0])
    assert "No row is better" in said or "With one seed nothing shows" in said


def test_the_best_is_corrected_for_the_number_of_rows() -> None:
    """One test of these differences has p = 0.02; five of them 0.08 each."""
    up, flat = {0: 1.0, 1: 2.0, 2: 3.0, 3: 2.5}, {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0}
    assert clear_best({"up": up, "flat": flat}) == "up"
    assert clear_best({"up": up, **{f"flat {i}": flat for i in range(5)}}) is None
    down = {seed: -value for seed, value in up.items()}
    assert clear_best({"down": down, "flat": flat}, lower=True) == "down"
    assert clear_best({"up": up, "none": {}}) is None
    assert clear_best({"up": up, "other seeds": {9: 0.0}}) is None


def test_differences_that_may_be_none() -> None:
    found = compared(EVEN)
    (warning,) = found.warnings
    assert warning["name"] == "difference-not-shown"
    assert warning["message"].startswith(
        "2 of 2 differences to A may be none, p >= 0.05 after correction (Holm): B / Image"
    )
    assert warning["where"] == []
    assert "difference-not-shown: 2 of 2 differences to A" in text_of(found)


def test_warnings_of_runs_are_put_together(tmp_path: Path) -> None:
    found = compared(BETTER, "B0", "B2", "C1")
    (warning,) = found.warnings
    assert warning["where"] == [
        {"row": "B", "column": "", "seeds": [0, 2], "of": 3},
        {"row": "C", "column": "", "seeds": [1], "of": 3},
    ]
    line = "judge-unreliable: B 2 of 3 seeds, C 1 of 3 seeds: the judge is right on 40%"
    assert line in text_of(found)
    assert "`judge-unreliable`: B 2 of 3 seeds" in markdown(found)
    page = write_page(Comparison(tmp_path, found.tree), {}).read_text()
    assert "Before you trust these scores" in page
    assert "B 2 of 3 seeds, C 1 of 3 seeds" in page
    everywhere = compared(BETTER, *(f"{r}{s}" for r in BETTER for s in range(3)))
    assert "judge-unreliable: all 9 runs: the judge" in text_of(everywhere)


def test_the_serious_one_speaks() -> None:
    plan = ComparisonPlan(seeds=(0, 1), scores=("image_accuracy",), rows=({"method": "standalone"},))  # type: ignore[arg-type]
    mild = {**judge("caution"), "message": "mild"}
    records = [record("standalone", 0, 0.5, mild), record("standalone", 1, 0.5, judge())]
    (warning,) = doubts_of(plan, records, table_of(plan, records))
    assert (warning["level"], warning["message"]) == ("serious", f"standalone, seed 1: {judge()['message']}")
    assert warning["where"][0]["seeds"] == [0, 1]
    assert place_text(warning, 2) == "all 2 runs"


def test_notes_on_the_data_stand_beside(tmp_path: Path) -> None:
    found = compared(BETTER)
    for cell in found.tree["cells"][:2]:
        cell["data_notes"] = ["train images: 3 cannot be read <a>"]
    assert text_of(found).count("data: train images: 3 cannot be read") == 1
    assert (
        "<li>train images: 3 cannot be read &lt;a&gt;</li>"
        in write_page(Comparison(tmp_path, found.tree), {}).read_text()
    )


def test_one_seed_is_said_once() -> None:
    found = compared({r: v[:1] for r, v in BETTER.items()}, "A0")
    assert [w["name"] for w in found.warnings] == ["judge-unreliable", "one-seed"]


def test_a_comparison_of_an_older_version_is_shown() -> None:
    found = compared(BETTER, "A0")
    del found.tree["warnings"]
    for entry in found.tree["table"]:
        del entry["best"]
    assert found.warnings == []
    assert "0.711" in text_of(found)
