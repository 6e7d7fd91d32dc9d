"""Dominance, class-wise temperature and the infiltration loss (FedCMI)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from fedloom.functional.infiltration import (
    class_means,
    class_temperatures,
    class_weights,
    confidence,
    dominance,
    infiltration_loss,
    weak_of,
)

NAN = float("nan")


def test_confidence_is_the_probability_of_the_right_class():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    assert torch.allclose(confidence(logits, labels), logits.softmax(1)[torch.arange(5), labels])


def test_dominance_is_a_ratio_of_sums_and_its_inverse_when_exchanged():
    a, b = torch.tensor([0.2, 0.6]), torch.tensor([0.3, 0.1])
    assert float(dominance(a, b)) == pytest.approx(2.0)
    assert float(dominance(b, a)) == pytest.approx(0.5)
    assert weak_of(2.0, ("audio", "image")) == ("audio", "image")
    assert weak_of(0.5, ("audio", "image")) == ("image", "audio")


def test_means_of_classes_and_nothing_for_an_absent_one():
    means = class_means(torch.tensor([0.2, 0.4, 0.9]), torch.tensor([0, 0, 2]), 3)
    assert means[[0, 2]].tolist() == pytest.approx([0.3, 0.9])
    assert math.isnan(means[1])


def test_the_specification_s_example():
    """R = 3 x the mean gives 1 / (1 + 2 ln 3) = 0.313."""
    second = torch.full((4,), 0.1)
    first = second * torch.tensor([9.0, 1.0, 1.0, 1.0])  # mean R = 3
    tau = class_temperatures(first, second)
    assert tau.tolist() == pytest.approx([0.3128, 1, 1, 1], abs=1e-4)


@pytest.mark.parametrize("geometric", [False, True])
def test_all_alike_where_the_lag_is(geometric):
    b = torch.tensor([0.1, 0.3, 0.6])
    for ratio in (0.5, 1.0, 1.6):
        tau = class_temperatures(ratio * b, b, geometric=geometric)
        assert tau.tolist() == pytest.approx([1, 1, 1], abs=1e-6)


@pytest.mark.parametrize("dominant", [0, 1])
def test_never_rises_with_the_lag_and_stays_within_its_range(dominant):
    torch.manual_seed(0)
    for _ in range(50):
        strong, weak = 0.5 + 0.5 * torch.rand(6), 0.5 * torch.rand(6)
        pair = (strong, weak) if dominant == 0 else (weak, strong)
        tau = class_temperatures(*pair, kappa=5.0)
        lag = strong / weak
        assert tau.min() >= 0.1
        assert tau.max() <= 1
        assert (tau[lag.argsort()].diff() <= 1e-7).all()


def test_by_the_geometric_mean_either_kind_is_treated_alike():
    torch.manual_seed(1)
    a, b = torch.rand(5) + 0.05, torch.rand(5) + 0.05
    assert torch.allclose(class_temperatures(a, b, geometric=True), class_temperatures(b, a, geometric=True))
    skewed = torch.tensor([0.9, 0.3, 0.3, 0.2, 0.2]), torch.tensor([0.1, 0.5, 0.5, 0.5, 0.5])
    assert not torch.allclose(class_temperatures(*skewed), class_temperatures(*reversed(skewed)))


def test_absent_classes_keep_one_and_one_class_alone_has_no_mean():
    tau = class_temperatures(torch.tensor([0.9, NAN, 0.2, 0.3]), torch.tensor([0.1, 0.5, 0.2, NAN]))
    assert tau[[1, 3]].tolist() == [1, 1]
    assert tau[0] < 1
    assert class_temperatures(torch.tensor([0.9, NAN]), torch.tensor([0.1, NAN])).tolist() == [1, 1]
    assert class_temperatures(torch.tensor([0.9, 0.5]), torch.tensor([0.0, 0.5])).tolist() == [1, 1]


def test_weights_are_inverse_temperatures_without_a_floor():
    a, b = torch.tensor([0.9, 0.4, 0.4]), torch.tensor([0.01, 0.4, 0.4])
    ratio = 90 / ((90 + 1 + 1) / 3)
    assert float(class_weights(a, b, kappa=20.0)[0]) == pytest.approx(1 + 20 * math.log(ratio), rel=1e-4)
    assert class_temperatures(a, b, kappa=20.0)[0] == pytest.approx(0.1)


def test_the_loss_by_hand():
    student, teacher = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    labels, tau = torch.tensor([0, 2, 2]), torch.tensor([0.5, 1.0, 0.25, 1.0])
    weights = torch.tensor([2.0, 1, 3, 1])
    loss = infiltration_loss(student, teacher, labels, tau, weights=weights, scale_tau2=True)
    wanted = 0.0
    for i, c in enumerate(labels.tolist()):
        t = float(tau[c])
        p, r = F.softmax(teacher[i] / t, 0), F.log_softmax(student[i] / t, 0)
        wanted += float(-(p * r).sum()) * float(weights[c]) * t**2 / 3
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_a_lesson_that_is_known_teaches_nothing():
    logits = torch.randn(6, 3)
    student = logits.clone().requires_grad_()
    infiltration_loss(student, logits, torch.arange(6) % 3, torch.full((3,), 0.5)).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6
