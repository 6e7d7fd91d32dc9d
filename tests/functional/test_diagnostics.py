"""What a convergence analysis bounds, by hand."""

from __future__ import annotations

import pytest
import torch

from fedloom.functional.diagnostics import alignment_error, client_drift, gradient_norm, gradient_variance

Z = torch.tensor([[[1.0, 0.0], [2.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]]])  # (K, S, D)
ALL = torch.ones(3, 2, dtype=torch.bool)
IMAGE = [True, True, False]


def test_alignment_error_by_hand() -> None:
    # means of images (2, 0) and (1, 1), of texts (0, 1) and (1, 1): squared distances 5 and 0
    assert alignment_error(Z, IMAGE, ALL) == pytest.approx(2.5)
    some = torch.tensor([[True, True], [False, True], [True, False]])
    z = torch.where(some[..., None], Z, torch.nan)
    assert alignment_error(z, IMAGE, some) == pytest.approx(2.0)  # (1, 0) to (0, 1); sample 1 has no text
    assert alignment_error(Z, IMAGE, ~ALL) is None
    assert alignment_error(Z, [True] * 3, ALL) is None


def test_client_drift_by_hand() -> None:
    z = torch.tensor([[[0.0], [0.0]], [[2.0], [6.0]]])
    two = torch.ones(2, 2, dtype=torch.bool)
    assert client_drift(z, two) == pytest.approx((1 + 9) / 2)  # each is 1 and 3 from the mean
    # client 2 answered sample 0 alone: of it the mean is 2, of sample 1 still 3
    third = torch.cat([z, torch.tensor([[[4.0], [torch.nan]]])])
    present = torch.tensor([[True, True], [True, True], [True, False]])
    assert client_drift(third, present) == pytest.approx(((4 + 9) / 2 + (0 + 9) / 2 + 4) / 3)
    assert client_drift(z[:1], two[:1]) is None  # alone there is nothing to drift from
    assert client_drift(z, ~two) is None


def test_both_are_squares_and_shifts_do_nothing() -> None:
    assert alignment_error(3 * Z + 1, IMAGE, ALL) == pytest.approx(9 * 2.5)
    assert client_drift(3 * Z + 1, ALL) == pytest.approx(9 * float(client_drift(Z, ALL) or 0))


def test_gradients_by_hand() -> None:
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    a.grad = torch.tensor([3.0, 0.0])
    assert gradient_norm([a, b]) == pytest.approx(3.0)
    b.grad = torch.tensor([4.0])
    assert gradient_norm([a, b]) == pytest.approx(5.0)
    assert gradient_variance([1.0, 3.0, 5.0]) == pytest.approx(8 / 3)
    assert gradient_variance([2.0]) == 0.0
    assert gradient_variance([]) is None
