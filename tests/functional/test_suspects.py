"""Who stands out."""

from __future__ import annotations

import math

import pytest
import torch

from fedloom.functional.suspects import label_agreement, row_agreement, row_distances, row_norms, stands_out


def test_numbers_by_hand() -> None:
    """Median 1.1, median absolute deviation 0.1: 3.5 times 0.148 is 0.52."""
    assert stands_out([1.0, 1.1, 1.2, 1.7, 0.9], "high", least=0.01) == [False, False, False, True, False]
    assert stands_out([1.0, 1.1, 1.2, 1.6, 0.9], "both", least=0.01) == [False] * 5
    assert stands_out([1.0, 1.1, 1.2, 0.5, 0.9], "high", least=0.01) == [False] * 5
    assert stands_out([1.0, 1.1, 1.2, 0.4, 0.9], "low", least=0.01) == [False, False, False, True, False]


def test_those_that_are_almost_alike_do_not_stand_out() -> None:
    assert not any(stands_out([1.0, 1.0, 1.0, 1.01], "both"))
    assert stands_out([1.0, 1.0, 1.0, 100.0], "both", relative=True) == [False, False, False, True]
    assert stands_out([1.0, 1.0, 1.0, 0.0], "both", relative=True) == [False, False, False, True]


def test_two_clients_and_numbers_that_are_none() -> None:
    assert stands_out([1.0, 100.0], "high") == [False, False]
    assert stands_out([1.0, None, 1.0, math.nan, 1.0, 9.0], "high") == [False] * 5 + [True]
    assert stands_out([], "high") == []


def test_a_factor_changes_nothing_where_logarithms_are_compared() -> None:
    numbers = [1.0, 1.3, 0.8, 5.0, 1.1]
    assert stands_out(numbers, "high", relative=True) == stands_out([1e6 * x for x in numbers], "high", relative=True)


def test_agreement_of_labels() -> None:
    labels = torch.tensor([[0, 1, 2, -1], [0, 1, 1, 0], [0, 1, 0, 0], [1, 2, 2, 0]])
    # Third sample: of clients 0 and 3 the others say 1, 0 and 2, no class of most.
    assert label_agreement(labels, 3) == [1.0, 0.75, 0.75, pytest.approx(1 / 3)]
    assert label_agreement(labels[:1], 3) == [None]
    assert label_agreement(labels[:0], 3) == []


def test_agreement_of_rows() -> None:
    z = torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]], [[-5.0, 0.0]], [[9.0, 9.0]]])
    here = torch.tensor([[True], [True], [True], [False]])
    assert row_agreement(z, here) == [0.0, 0.0, pytest.approx(-1.0), None]
    assert row_agreement(z[:1], here[:1]) == [None]
    nan = torch.cat([z, torch.full((1, 1, 2), math.nan)])
    assert row_agreement(nan, torch.tensor([[True], [True], [True], [False], [False]]))[:3] == [0.0, 0.0, -1.0]


def test_norms_and_distances() -> None:
    z = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]], [[3.0, 4.0], [6.0, 8.0]]])
    here = torch.ones(3, 2).bool()
    assert row_norms(z, here) == [pytest.approx(math.sqrt(12.5))] * 2 + [pytest.approx(math.sqrt(62.5))]
    assert row_distances(z, here) == [0.0, 0.0, pytest.approx(math.sqrt(50))]
    here[2, 1] = False
    assert row_distances(z, here) == [0.0, 0.0, 0.0]
    assert row_norms(z, ~torch.ones(3, 2).bool()) == [None, None, None]
