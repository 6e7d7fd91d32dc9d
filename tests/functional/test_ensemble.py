"""Consensus of clients: Fed-ET's weights by hand, FedGEMS's selection, means by modality, who is absent."""

from __future__ import annotations

import math

import pytest
import torch

from fedloom.functional.ensemble import (
    knowing_weights,
    modality_mean,
    shares,
    variance_weights,
    weighted_consensus,
    within,
)

# Three clients, one sample, three classes: the figures are worked out by hand.
SCORES = torch.tensor([[[2.0, 0.0, -2.0]], [[0.0, 1.0, 0.0]], [[-1.0, 3.0, -1.0]]])
ALL = torch.ones(3, 1, dtype=torch.bool)
ONE = ["image"] * 3


def test_fed_et_by_hand() -> None:
    weights = variance_weights(SCORES, ONE, ALL)
    assert weights[:, 0].tolist() == pytest.approx([0.413793, 0.034483, 0.551724], abs=1e-6)
    found = weighted_consensus(SCORES, ONE, ALL)
    assert found.logits[0].tolist() == pytest.approx([0.275862, 1.689655, -1.379310], abs=1e-6)
    assert found.labels.tolist() == [1]
    # Only the first disagrees: 0.413793 * (2, 0, -2).
    assert found.diversity[0].tolist() == pytest.approx([0.827586, 0.0, -0.827586], abs=1e-6)


def test_fed_et_where_all_agree_and_where_nobody_says_anything() -> None:
    agree = torch.tensor([[[3.0, 0.0]], [[1.0, 0.0]]])
    found = weighted_consensus(agree, ["image"] * 2, torch.ones(2, 1, dtype=torch.bool))
    assert not found.diversity.any()
    flat = variance_weights(torch.ones(2, 1, 2), ["image"] * 2, torch.ones(2, 1, dtype=torch.bool))
    assert flat[:, 0].tolist() == [0.5, 0.5]


def test_fed_et_with_equal_variances_is_the_mean() -> None:
    """Scores that are permutations of one another have one variance."""
    draws = torch.Generator().manual_seed(0)
    row = torch.randn(6, generator=draws)
    logits = torch.stack([torch.stack([row[torch.randperm(6, generator=draws)] for _ in range(5)]) for _ in range(4)])
    found = weighted_consensus(logits, ["image"] * 4, torch.ones(4, 5, dtype=torch.bool))
    assert torch.allclose(found.logits, logits.mean(0), atol=1e-6)


def test_both_modalities_have_the_same_say_however_many_clients_each_has() -> None:
    group = ["image", "image", "image", "text"]
    present = torch.ones(4, 2, dtype=torch.bool)
    present[3, 1] = False  # no text client knows the second sample
    weights = shares(group, present)
    assert weights[:, 0].tolist() == pytest.approx([1 / 6] * 3 + [1 / 2])
    assert weights[:, 1].tolist() == pytest.approx([1 / 3] * 3 + [0.0])
    values = torch.arange(8.0).view(4, 2, 1)
    assert modality_mean(values, group, present)[:, 0].tolist() == pytest.approx([(2.0 + 6.0) / 2, 3.0])


def test_what_absent_clients_hold_counts_for_nothing() -> None:
    scores, present = SCORES.clone(), ALL.clone()
    scores[0], present[0] = torch.nan, False
    found = weighted_consensus(scores, ONE, present)
    alone = weighted_consensus(SCORES[1:], ONE[1:], ALL[1:])
    assert torch.allclose(found.logits, alone.logits)
    nobody = weighted_consensus(scores, ONE, torch.zeros_like(present))
    assert nobody.labels.tolist() == [-1]
    assert not nobody.logits.any()


def test_fedgems_listens_to_those_that_are_right_alone() -> None:
    sure, unsure, wrong = [4.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 9.0, 0.0]
    logits = torch.tensor([[sure], [unsure], [wrong]])
    weights = knowing_weights(logits, torch.tensor([0]), ALL)[:, 0]
    assert weights[2] == 0  # not the rest that a softmax over zeros would leave it
    assert weights.sum().item() == pytest.approx(1.0)

    def nats(row: list[float]) -> float:
        p = torch.tensor(row).softmax(0)
        return float(-(p * p.log()).sum())

    expected = 1 / (1 + math.exp(1 / nats(unsure) - 1 / nats(sure)))
    assert weights[0].item() == pytest.approx(expected, abs=1e-6)
    nobody = knowing_weights(logits, torch.tensor([2]), ALL)
    assert not nobody.any()


def test_an_answer_without_any_doubt_does_not_overflow() -> None:
    logits = torch.tensor([[[1e4, 0.0]], [[1.0, 0.0]]])
    weights = knowing_weights(logits, torch.tensor([0]), torch.ones(2, 1, dtype=torch.bool))
    assert torch.isfinite(weights).all()
    assert weights[0, 0] > 0.99


def test_shapes_that_disagree() -> None:
    with pytest.raises(ValueError, match=r"must be \(K, N\)"):
        within(torch.ones(2, 1), ["image"], torch.ones(2, 1, dtype=torch.bool))
