"""Scores of drawn pictures by what they show besides their class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fedloom
from fedloom.config.models import JudgeSettings
from fedloom.data.datasets.flora import load
from fedloom.metrics.attribute_accuracy import attribute_accuracy
from fedloom.metrics.base import Evaluation, ShownAttribute, shares
from fedloom.metrics.variety_coverage import METRIC, variety_coverage
from fedloom.models.evaluators.attribute_judge import held_out, train_attribute_judge

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
COLOUR = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
PETALS = np.array([[1.0, 0.0], [0.0, 1.0]])


def evaluation(colours: list[int], petals: list[int]) -> Evaluation:
    shown = {
        "colour": ShownAttribute(("red", "blue", "white"), COLOUR, np.array(colours)),
        "petals": ShownAttribute(("three", "four"), PETALS, np.array(petals)),
    }
    images = np.zeros((8, 2, 2, 3), dtype=np.uint8)
    return Evaluation(1, images=images, labels=LABELS, class_names=("a", "b"), attributes=shown)


def test_by_hand() -> None:
    right = evaluation([0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 1, 1, 1, 1])
    assert variety_coverage(right) == attribute_accuracy(right) == 1.0
    # class 0 draws red alone: distance 0.5; class 1 half blue, half red: 0.75
    wrong = evaluation([0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0])
    assert variety_coverage(wrong) == pytest.approx((0.5 + 0.25) / 2)
    assert attribute_accuracy(wrong) == pytest.approx(4 / 8)


def test_nothing_to_score_is_no_value() -> None:
    bare = Evaluation(1, images=np.zeros((8, 2, 2, 3), dtype=np.uint8), labels=LABELS)
    assert METRIC.value(bare) is None  # the data set has no attributes
    only = ShownAttribute(("three", "four"), PETALS, np.zeros(8, dtype=np.int64))
    assert variety_coverage(Evaluation(1, labels=LABELS, attributes={"petals": only})) is None
    colour = ShownAttribute(("red", "blue", "white"), COLOUR, np.zeros(8, dtype=np.int64))
    assert attribute_accuracy(Evaluation(1, labels=LABELS, attributes={"colour": colour})) is None


def test_classes_without_real_or_drawn_pictures_do_not_count() -> None:
    real = np.array([[0.5, 0.5], [0.0, 0.0], [0.5, 0.5]])
    colour = ShownAttribute(("red", "blue"), real, np.array([0, 1, 0, 0]))
    assert variety_coverage(Evaluation(1, labels=np.array([0, 0, 1, 1]), attributes={"colour": colour})) == 1.0
    assert not shares(np.array([1]), np.array([0]), (2, 2))[1].any()


def test_colours_are_seen_by_who_was_shown_them() -> None:
    dataset = load(size=16, images=10, texts=10, test=10, generic=10, reference=400)
    assert dataset.reference is not None
    settings = JudgeSettings(channels=(16, 32), steps=60)
    judge = train_attribute_judge(settings, dataset.reference.images, dataset.attributes, 0)
    own, rest = held_out(400)
    assert len(own) == 320
    seen = judge.see(dataset.reference.images[rest])["colour"]
    assert (seen == dataset.attributes["colour"].labels[rest]).mean() > 0.6


def test_a_run_has_them_where_they_are_asked_for(tmp_path: Path) -> None:
    metrics = {"metrics": ["variety_coverage", "attribute_accuracy"]}
    run = fedloom.run(preset="smoke", data={"name": "flora-102"}, evaluation=metrics, rounds=1, out=tmp_path / "run")
    for row in run.rounds:
        assert set(row["metrics"]) == set(metrics["metrics"])
        assert all(0 <= value <= 1 for value in row["metrics"].values())
    assert {"colour_accuracy", "petals_accuracy"} <= set(run.summary["judge"])
