"""Figures against hand-made ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from stub_runs import row

from fedloom.comparison.measures import average, before_and_after, curve, rounds_to
from fedloom.comparison.statistics import (
    corrected,
    effect_size,
    holm,
    p_text,
    paired,
    prediction,
    sign_flip,
    spread,
    verdict_text,
)


def test_spread():
    assert spread({0: 1.0, 1: 2.0, 5: 6.0}) == {"n": 3, "mean": 3.0, "sd": pytest.approx(math.sqrt(7))}
    assert spread({3: 0.5}) == {"n": 1, "mean": 0.5, "sd": None}
    assert spread({}) == {"n": 0, "mean": None, "sd": None}


def test_paired_by_hand():
    """Differences 1, 2, 3: t = 2 sqrt 3; with two degrees of freedom P(|T| > t) = 1 - t / sqrt(2 + t^2)."""
    found = paired({0: 11.0, 1: 22.0, 2: 33.0, 7: 0.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 1.0})
    reach = 4.302652729911275 / math.sqrt(3)  # the table's t for 0.975
    expected = {
        "n": 3,
        "mean": 2.0,
        "low": 2 - reach,
        "high": 2 + reach,
        "p": 1 - 2 * math.sqrt(3) / math.sqrt(14),
        "p_flip": 2 / 8,  # of eight flips, none and all
        "effect": 2 / math.sqrt(math.pi),  # d_z = 2, J(2) = 1 / sqrt(pi)
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["effect_low"] < found["effect"] < found["effect_high"]


def test_paired_has_two_sides():
    one, other = {0: 1.0, 1: 3.0}, {0: 0.0, 1: 1.0}
    up, down = paired(one, other), paired(other, one)
    assert (up["p"], up["mean"]) == (down["p"], -down["mean"])
    # one degree of freedom is Cauchy's distribution: P(|T| > 3) = 1 - 2 atan(3) / pi
    assert up["p"] == pytest.approx(1 - 2 * math.atan(3) / math.pi)


def test_paired_without_spread():
    one = paired({0: 1.0}, {0: 3.0})
    assert (one["n"], one["mean"], one["low"], one["p"], one["effect"]) == (1, -2.0, None, None, None)
    same = paired({0: 1.0, 1: 1.1}, {0: 0.7, 1: 0.8})  # equal but for rounding
    assert (same["low"], same["high"], same["p"]) == (pytest.approx(0.3), pytest.approx(0.3), None)
    assert paired({0: 1.0}, {1: 1.0})["mean"] is None
    both = [one, same]
    corrected(both)
    assert [d["verdict"] for d in both] == ["not shown", "not shown"]
    assert verdict_text(one) == "not shown"


@pytest.mark.parametrize("n", [3, 5, 10, 15])
def test_against_scipy(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.6, 1, n), rng.normal(0, 1, n)
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval()
    assert (found["p"], found["low"], found["high"]) == pytest.approx((test.pvalue, interval.low, interval.high))
    flips = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=10**5)
    assert found["p_flip"] == pytest.approx(flips.pvalue)


def test_many_sign_flips_are_drawn():
    d = np.random.default_rng(1).normal(0.3, 1, 17)
    exact = stats.permutation_test(
        (d,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=2**17, vectorized=True, batch=2**14
    ).pvalue
    assert sign_flip(list(d)) == pytest.approx(exact, abs=4 * math.sqrt(exact / 2**16))
    assert sign_flip(list(d)) == sign_flip(list(d))


@pytest.mark.parametrize(("d", "n"), [(0.0, 5), (0.4, 10), (-2.5, 5), (12.0, 3), (30.0, 10)])
def test_effect_size(d, n):
    """Its bounds are where the observed t is at the edge of what they expect; it is odd in d."""
    effect, low, high = effect_size(d, n)
    j = math.gamma((n - 1) / 2) / math.gamma((n - 2) / 2) / math.sqrt((n - 1) / 2)
    assert effect == pytest.approx(j * d)
    edges = [stats.nct.sf(d * math.sqrt(n), n - 1, x / j * math.sqrt(n)) for x in (low, high)]
    assert edges == pytest.approx([0.025, 0.975], abs=2e-5)
    assert effect_size(-d, n) == pytest.approx((-effect, -high, -low))
    assert effect_size(d, 2) == (None, None, None)


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_verdicts():
    made = [{"mean": m, "p": p} for m, p in ((0.1, 0.0001), (-0.1, 0.01), (0.1, 0.04), (0.1, None))]
    corrected(made)
    assert [d["verdict"] for d in made] == ["above", "below", "above", "not shown"]
    corrected(made := [{"mean": 0.1, "p": 0.03}, {"mean": -0.1, "p": 0.04}])
    assert [verdict_text(d) for d in made] == ["not shown (p = 0.060)", "not shown (p = 0.060)"]
    assert p_text(0.0001) == "p < 0.001"


def test_prediction():
    """Of 1, 2, 3: 2 -+ t s sqrt(4/3), s = 1; and in 95 % of samples it holds the next."""
    reach = 4.302652729911275 * math.sqrt(4 / 3)
    assert prediction([1.0, 2.0, 3.0]) == pytest.approx((2 - reach, 2 + reach))
    samples = np.random.default_rng(0).normal(size=(1000, 6))
    held = [low <= s[-1] <= high for s in samples for low, high in [prediction(list(s[:-1]))]]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
    with pytest.raises(ValueError, match="1 values"):
        prediction([1.0])


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
