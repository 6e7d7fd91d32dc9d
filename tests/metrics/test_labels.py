"""Label diagnostics."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fedloom.errors import BadInput
from fedloom.metrics.labels import class_quality, label_report


def test_report_by_hand() -> None:
    report = label_report(
        drawn=[0, 0, 1, 1, 2, 2],
        voted=[0, 1, 1, 2, -1, 0],
        kept=[True, True, True, False, False, False],
        judged=[0, 1, 1, 1, 2, 0],
    )
    assert report == pytest.approx(
        {
            "prompt_accuracy": 4 / 6,
            "voted_accuracy": 4 / 5,
            "kept_accuracy": 1.0,
            "dropped_accuracy": 1 / 2,
            "kept_prompt_accuracy": 2 / 3,
            "kept_share": 0.5,
        }
    )
    assert json.loads(json.dumps(report)) == report  # plain numbers, fit for a run's files


def test_nothing_dropped_nothing_kept_nothing_voted_nothing_at_all() -> None:
    labels = torch.tensor([0, 1])
    assert label_report(labels, labels, torch.tensor([True, True]), labels)["dropped_accuracy"] is None
    nobody = label_report(labels, [-1, -1], [False, False], labels)
    assert nobody["prompt_accuracy"] == 1.0
    assert nobody["kept_share"] == 0.0
    assert [nobody[key] for key in ("voted_accuracy", "kept_accuracy", "dropped_accuracy")] == [None] * 3
    empty = np.zeros(0, dtype=int)
    assert set(label_report(empty, empty, empty, empty).values()) == {None}


def test_lengths_must_agree() -> None:
    with pytest.raises(BadInput, match=r"voted \(3,\)"):
        label_report([0, 1], [0, 1, 2], [True, True], [0, 1])


def test_classes_by_hand() -> None:
    found = class_quality(
        voted=[0, 0, 0, 2, 2, -1, 1],
        kept=[True, True, False, True, False, False, False],
        judged=[0, 1, 0, 2, 3, 2, 1],
        votes=[4, 3, 2, 5, 1, 0, 1],
        classes=4,
    )
    assert found == {
        "true_classes": [2, 2, 2, 1],
        "right_classes": [1, 0, 1, 0],
        "kept_share_classes": [2 / 3, 0.0, 0.5, None],
        "accuracy_classes": [0.5, None, 1.0, None],
        "votes_classes": [3.0, 1.0, 3.0, None],
    }
    assert json.loads(json.dumps(found)) == found


def test_classes_of_clients_that_do_not_vote_or_say_nothing() -> None:
    assert class_quality([0, 1], [True, True], [0, 0], None, 2)["votes_classes"] == [None, None]
    silent = class_quality([-1, -1], [False, False], [0, 1], np.array([0, 0]), 2)
    assert silent["true_classes"] == [1, 1]
    assert silent["right_classes"] == [0, 0]
    assert silent["kept_share_classes"] == silent["accuracy_classes"] == silent["votes_classes"] == [None, None]
