"""Whether a new run is what kept rows predict: evidence/agreement and reproduce."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from evidence import rows, studies, tables
from evidence.agreement import Check, chance, checks, judged
from made_up_study import Script, row


def test_checks(study: studies.Study, kept: Path) -> None:
    """Of seeds 1 to 4 for seed 0, of all five for seed 9; the rows of the other machine are in none."""
    found = tables.kept(study, kept)
    new = {"image_accuracy": "0.58", "t2i_accuracy": ""}
    first, metric = checks(found, row(arm="full", seed="0", **new, **{"metrics.mine": "2"}))
    others = [value for seed, value in found.values("full", "image_accuracy").items() if seed]
    mean, sd = sum(others) / 4, math.sqrt(sum((x - sum(others) / 4) ** 2 for x in others) / 3)
    reach = 3.182446305284263 * sd * math.sqrt(1 + 1 / 4)  # the table's t for 0.975 with three degrees of freedom
    assert (first.low, first.high) == pytest.approx((mean - reach, mean + reach))
    assert (first.n, first.same, first.inside) == (4, pytest.approx(0.56), True)
    assert first.text.endswith("(4 runs); this seed had 0.560 (+0.020)")
    assert (metric.low, metric.high, metric.inside) == (2, 2, True)  # no spread: only what is equal is inside
    assert "(equal)" in metric.text
    (other,) = checks(found, row(arm="full", seed="9", image_accuracy="0.9"))
    assert (other.n, other.same, other.inside) == (5, None, False)
    assert "0.900: OUTSIDE [" in other.text
    assert checks(found, row(arm="alone", seed="9", image_accuracy="", t2i_accuracy="1")) == []  # it has no generator


def check(inside: bool, same: float | None = None) -> Check:
    return Check("a", 0, "image_accuracy", 0.5 if inside else 2.0, 5, 0.0, 1.0, same)


def test_too_few_kept_runs() -> None:
    few = Check("a", 0, "fid", 0.5, 2, None, None, 0.4)
    assert few.inside is None
    assert few.text == "a seed 0, fid 0.500: only 2 kept runs of other seeds; this seed had 0.400 (+0.100)"
    lines, explained = judged([few])
    assert explained
    assert lines[0] == "fid: +0.100 against the kept runs of the same seeds, mean of 1"
    assert lines[1].startswith("0 of 0 scores are outside; chance gives so many or more with p = 1.")


@pytest.mark.parametrize(("outside", "total", "explained"), [(0, 4, True), (2, 4, True), (3, 4, False), (5, 24, False)])
def test_what_chance_explains(outside: int, total: int, explained: bool) -> None:
    found = [check(i >= outside) for i in range(total)]
    assert judged(found)[1] is explained
    exact = sum(math.comb(total, k) * 0.05**k * 0.95 ** (total - k) for k in range(outside, total + 1))
    assert chance(outside, total) == pytest.approx(exact)


def test_the_same_again(script: Script, kept: Path, tmp_path: Path, made_up: dict[str, Any]) -> None:
    words = ("--study", tmp_path / "tiny.yaml", "--results", kept, "--seeds", "0,5")
    said = script("reproduce", *words, "--jobs", 2)
    assert said.startswith("0\nkept: 5 seeds (0-4) on ")
    assert "full seed 0, image_accuracy 0.560: inside [" in said
    assert "this seed had 0.560 (equal)" in said
    assert "0 of 16 scores are outside" in said
    assert len(rows.read(kept / "tiny.csv")) == 19  # nothing is added
    made_up["shift"] = 0.2
    said = script("reproduce", *words, "--keep-rows", "--arms", "full,less")
    assert said.startswith("1\n")
    assert "OUTSIDE" in said
    assert "image_accuracy: +0.200 against the kept runs of the same seeds, mean of 2" in said
    assert len(rows.read(kept / "tiny.csv")) == 23
    made_up |= {"shift": 0.0, "fail": [("full", 0)]}
    said = script("reproduce", *words[:4], "--arms", "full")
    assert said.startswith("1\n")
    assert "full seed 0 failed: no disk" in said


def test_nothing_to_compare_with(script: Script, kept: Path, tmp_path: Path, study: studies.Study) -> None:
    words = ("--study", tmp_path / "tiny.yaml", "--results")
    assert "error: study tiny has no kept rows to compare with" in script("reproduce", *words, tmp_path / "none")
    file = kept / "tiny.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if ",less," not in line))
    said = script("reproduce", *words, kept, "--arms", "less")
    assert said == "2\nerror: arm less has no kept rows; those that have: full, alone\n"
