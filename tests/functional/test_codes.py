"""Answers and representations in few bytes."""

import numpy as np
import torch
import torch.nn.functional as F

from fedloom.functional.codes import from_top, to_codes, to_top


def test_what_is_left_is_spread_over_the_others() -> None:
    probabilities = torch.tensor([[0.6, 0.3, 0.06, 0.04], [0.25, 0.25, 0.25, 0.25]])
    classes, shares = to_top(probabilities, 2)
    assert (classes.dtype, shares.dtype) == (np.uint16, np.uint8)
    found = from_top(classes, shares, 4)
    torch.testing.assert_close(found.sum(1), torch.ones(2).double())
    torch.testing.assert_close(found[0], torch.tensor([0.6, 0.3, 0.05, 0.05]).double(), atol=1 / 255, rtol=0)


def test_all_classes_come_back() -> None:
    probabilities = torch.rand(20, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    for k in (5, 9):
        found = from_top(*to_top(probabilities, k), 5)
        torch.testing.assert_close(found, probabilities.double(), atol=2 / 255, rtol=0)


def test_no_finite_answer_is_none() -> None:
    classes, shares = to_top(torch.tensor([[torch.nan, 0.5], [0.5, 0.5]]), 2)
    assert not shares[0].any()
    assert not from_top(classes, shares, 2)[0].any()


def test_an_answer_that_says_nothing_of_any_class_is_still_one() -> None:
    probabilities = torch.full((1, 1000), 1e-3)
    assert from_top(*to_top(probabilities, 3), 1000).any()


def test_what_no_client_can_mean_is_no_answer() -> None:
    shares = np.array([[200, 50]], np.uint8)
    assert not from_top(np.array([[1, 1]], np.uint16), shares, 3).any()  # a class twice
    assert not from_top(np.array([[1, 7]], np.uint16), shares, 3).any()  # a class there is not
    assert not from_top(np.array([[1, 2]], np.uint16), shares + np.uint8(55), 3).any()  # more than everything


def test_codes_keep_cosines() -> None:
    z = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    codes = to_codes(z, 32, seed=3)
    assert codes.dtype == np.int8
    assert codes.shape == (50, 32)
    kept, whole = (F.normalize(x, dim=1) @ F.normalize(x, dim=1).T for x in (torch.from_numpy(codes).float(), z))
    assert (kept - whole).abs().mean() < 1 / 32**0.5
    assert (to_codes(10 * z, 32, seed=3) == codes).all()
