"""Figures against hand-made ones."""

from __future__ import annotations

import math

import pytest
from stub_runs import row

from fedloom.comparison.measures import average, before_and_after, curve, rounds_to
from fedloom.comparison.statistics import paired, spread


def test_spread():
    assert spread({0: 1.0, 1: 2.0, 5: 6.0}) == {"n": 3, "mean": 3.0, "sd": pytest.approx(math.sqrt(7))}
    assert spread({3: 0.5}) == {"n": 1, "mean": 0.5, "sd": None}
    assert spread({}) == {"n": 0, "mean": None, "sd": None}


def test_paired_by_hand():
    """Differences 1, 2, 3: t = 2 sqrt 3; with two degrees of freedom P(T > t) = (1 - t / sqrt(2 + t^2)) / 2."""
    found = paired({0: 11.0, 1: 22.0, 2: 33.0, 7: 0.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 1.0})
    reach = 4.302652729911275 / math.sqrt(3)  # the table's t for 0.975
    p = (1 - 2 * math.sqrt(3) / math.sqrt(14)) / 2
    assert found == {
        "n": 3,
        "mean": 2.0,
        "low": pytest.approx(2 - reach),
        "high": pytest.approx(2 + reach),
        "p_better": pytest.approx(p),
        "p_worse": pytest.approx(1 - p),
    }


def test_paired_where_low_is_better():
    high, low = ({0: 1.0, 1: 3.0}, {0: 0.0, 1: 1.0})
    better, worse = paired(high, low), paired(high, low, lower=True)
    assert (better["p_better"], better["mean"]) == (worse["p_worse"], worse["mean"])
    # one degree of freedom is Cauchy's distribution: P(T > 3) = 1/2 - atan(3) / pi
    assert better["p_better"] == pytest.approx(0.5 - math.atan(3) / math.pi)


def test_paired_without_spread():
    one = paired({0: 1.0}, {0: 3.0})
    assert (one["n"], one["mean"], one["low"], one["p_better"]) == (1, -2.0, None, None)
    same = paired({0: 1.0, 1: 1.0}, {0: 3.0, 1: 3.0})
    assert (same["low"], same["high"], same["p_better"]) == (-2.0, -2.0, None)
    assert paired({0: 1.0}, {1: 1.0})["mean"] is None


def test_average_of_what_there_is():
    assert average({"image_accuracy": 0.4, "text_accuracy": 0.8}) == pytest.approx(0.6)
    assert average({"image_accuracy": None, "text_accuracy": 0.8}) == 0.8
    assert average({"image_accuracy": None, "joint_accuracy": 0.3, "server_accuracy": 0.9}) == 0.3
    assert average({}) is None


def test_curve_adds_up():
    points = curve([row("fedmd", 1, t) for t in range(3)], {"2": [0.5, 0.4]})
    assert [p["bytes_up"] for p in points] == [0, 1000, 2000]  # what round 0 sends is set-up
    assert [p["seconds"] for p in points] == [0.0, 2.0, 2.5]  # measured where it is, else the row's phases
    ends = before_and_after(points)
    assert ends["text_accuracy"] == {"before": 0.6, "after": pytest.approx(0.8)}
    assert ends["bytes_down"] == {"before": None, "after": 2000.0}
    assert ends["t2i_accuracy"] == {"before": None, "after": None}


def test_recalls_and_the_rounds_to_a_target():
    rows = [{**row("fedmd", 0, t), "server_recall": None if t == 1 else 0.4 + 0.1 * t, "fid": 9 - t} for t in range(4)]
    points = curve(rows, {})
    assert [p["server_recall"] for p in points] == pytest.approx([0.4, None, 0.6, 0.7])
    assert points[0]["pair_recall"] is None
    assert average({"image_accuracy": 0.4, "pair_recall": 0.1}) == 0.4
    assert rounds_to(points, "server_recall", 0.5) == 2  # round 1 was not scored
    assert rounds_to(points, "server_recall", 0.4) == 0
    assert rounds_to(points, "server_recall", 0.8) is None
    assert rounds_to(points, "fid", 8.0) == 1  # lower is better
    assert rounds_to(points, "clip_score", 0.0) is None
    assert before_and_after(points)["rounds_to_target"]["after"] is None
    ends = before_and_after(points, ("server_recall", 0.5))
    assert ends["rounds_to_target"] == {"before": None, "after": 2}
    assert ends["server_recall"] == {"before": 0.4, "after": pytest.approx(0.7)}
