"""Eqs. 8 and 9."""

from __future__ import annotations

import math

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.contrast import (
    client_weights,
    contrast_scores,
    contrast_weights,
    stacked_scores,
    symmetric_infonce,
)
from reference import fusion as slow

ANCHORS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
A, B = ANCHORS, torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])


@pytest.mark.parametrize(
    ("z", "include_self", "expected"),
    [
        (A, False, (0.686738, 0.306853, 0.686738)),
        (B, False, (-1.313262, -1.126928, 0.686738)),
        (A, True, (-0.407606, -0.551445, -0.407606)),
        (B, True, (-1.551445, -1.407606, -0.407606)),
    ],
)
@pytest.mark.parametrize("tile", [1, 2, 512])
def test_golden_scores(z: torch.Tensor, include_self: bool, expected: tuple[float, ...], tile: int) -> None:
    got = contrast_scores(z, ANCHORS, include_self=include_self, tile=tile)
    assert got.tolist() == pytest.approx(expected, abs=2e-6)


def test_golden_weights() -> None:
    alpha = contrast_weights(torch.stack([A, B]), ANCHORS)
    assert alpha[0].tolist() == pytest.approx((0.880797, 0.807490, 0.5), abs=2e-6)
    torch.testing.assert_close(alpha.sum(0), torch.ones(3))


@pytest.mark.parametrize("n", [2, 3, 17, 40])
@pytest.mark.parametrize("tile", [1, 2, 3, 512])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("cosine", [True, False])
def test_against_the_slow_reference(n: int, tile: int, include_self: bool, cosine: bool) -> None:
    torch.manual_seed(n)
    z, a = torch.randn(n, 6), torch.randn(n, 6)
    z[0] = 0.0
    got = contrast_scores(z, a, 0.7, include_self, tile, cosine)
    expected = slow.scores(z.tolist(), a.tolist(), 0.7, include_self, raw=not cosine)
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_one_sample_scores_zero_and_none_nothing() -> None:
    for include_self in (True, False):
        assert contrast_scores(torch.randn(1, 4), torch.randn(1, 4), include_self=include_self).tolist() == [0.0]
    assert contrast_scores(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    assert contrast_weights(torch.randn(3, 1, 4), torch.randn(1, 4))[:, 0].tolist() == pytest.approx([1 / 3] * 3)


def test_scale_of_representations_and_anchors_does_not_matter() -> None:
    torch.manual_seed(0)
    z, a = torch.randn(30, 8), torch.randn(30, 8)
    expected = contrast_scores(z, a)
    for scale in (1e-4, 100.0, 1e10):
        torch.testing.assert_close(contrast_scores(scale * z, a), expected)
        torch.testing.assert_close(contrast_scores(z, scale * a), expected)


def test_shifting_every_cosine_changes_nothing() -> None:
    """log(e^(c+x) / sum e^(c_j+x)) = log(e^c / sum e^(c_j)): one more component that all rows share, dot products."""
    torch.manual_seed(1)
    z, a = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 5, dtype=torch.float64)
    extra = torch.ones(20, 1, dtype=torch.float64)
    shifted = contrast_scores(torch.cat([z, 3 * extra], 1), torch.cat([a, extra], 1), cosine=False)
    torch.testing.assert_close(shifted, contrast_scores(z, a, cosine=False))


@pytest.mark.parametrize("scale", [100.0, 1e6])
def test_dot_products_of_any_size_stay_finite_and_exact(scale: float) -> None:
    torch.manual_seed(2)
    z, a = scale * torch.randn(300, 16, dtype=torch.float64), torch.randn(300, 16, dtype=torch.float64)
    logits = z @ a.T
    own = logits.diagonal().clone()
    logits.fill_diagonal_(-math.inf)
    expected = own - logits.logsumexp(1)
    torch.testing.assert_close(contrast_scores(z, a, cosine=False, tile=7), expected)
    single = contrast_scores(z.float(), a.float(), cosine=False)
    assert torch.isfinite(single).all()
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-3 * scale)


def test_the_diagonal_leaves_exactly() -> None:
    """One's own anchor is 200 above the others: subtracting exponentials would leave log(0)."""
    z = 200 * torch.eye(5)
    got = contrast_scores(z, torch.eye(5), cosine=False)
    assert got.tolist() == pytest.approx([200 - math.log(4)] * 5)


def test_float64_is_kept_and_gradient_is_not() -> None:
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    got = contrast_scores(z, torch.randn(5, 3, dtype=torch.float64))
    assert got.dtype == torch.float64
    assert not got.requires_grad


def test_a_bad_row_spoils_only_itself() -> None:
    torch.manual_seed(3)
    z, a = torch.randn(6, 4), torch.randn(6, 4)
    expected = contrast_scores(z, a)
    z[2, 0] = math.nan
    got = contrast_scores(z, a)
    assert torch.isnan(got).tolist() == [i == 2 for i in range(6)]
    torch.testing.assert_close(got[[0, 1, 3, 4, 5]], expected[[0, 1, 3, 4, 5]])


def test_permuting_samples_permutes_scores() -> None:
    torch.manual_seed(4)
    z, a, order = torch.randn(25, 4), torch.randn(25, 4), torch.randperm(25)
    torch.testing.assert_close(contrast_scores(z[order], a[order], tile=3), contrast_scores(z, a)[order])


def test_weights_are_a_simplex_over_present_clients() -> None:
    torch.manual_seed(5)
    z = torch.randn(4, 30, 6)
    present = torch.rand(4, 30) < 0.5
    present[:, 0] = False
    present[:, 1] = torch.tensor([False, True, False, False])
    z[~present] = math.nan
    alpha = contrast_weights(z, torch.randn(4, 30, 6), present=present)
    assert (alpha >= 0).all()
    assert (alpha[~present] == 0).all()
    torch.testing.assert_close(alpha.sum(0), present.any(0).float())
    assert alpha[:, 1].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_equal_clients_share_and_a_dominant_one_takes_all() -> None:
    torch.manual_seed(6)
    z = torch.randn(1, 8, 4).expand(3, 8, 4)
    torch.testing.assert_close(contrast_weights(z, torch.randn(8, 4)), torch.full((3, 8), 1 / 3))
    s = torch.tensor([[1e4, -1e4], [0.0, 0.0], [3.0, 0.0]])
    torch.testing.assert_close(client_weights(s), torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]]))


def test_client_weights_against_the_slow_reference_and_any_order() -> None:
    torch.manual_seed(7)
    s, present = 5 * torch.randn(5, 20), torch.rand(5, 20) < 0.6
    got = client_weights(s, present)
    torch.testing.assert_close(got, torch.tensor(slow.weights(s.tolist(), present.tolist())))
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(client_weights(s[order], present[order]), got[order])


def test_infonce_against_its_definition() -> None:
    torch.manual_seed(8)
    a, b = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    there = slow.scores(a.tolist(), b.tolist(), 0.07, include_self=True)
    back = slow.scores(b.tolist(), a.tolist(), 0.07, include_self=True)
    assert symmetric_infonce(a, b).item() == pytest.approx(-(sum(there) + sum(back)) / 14)


def test_bad_options_are_named() -> None:
    z = torch.zeros(3, 2)
    with pytest.raises(BadInput, match="temperature > 0"):
        contrast_scores(z, z, 0.0)
    with pytest.raises(BadInput, match="tile"):
        contrast_scores(z, z, tile=0)
    with pytest.raises(BadInput, match="temperature is -1"):
        symmetric_infonce(z, z, -1)
    with pytest.raises(ValueError, match=r"\(3, 2\) and anchors \(2, 2\)"):
        contrast_scores(z, z[:2])
    with pytest.raises(ValueError, match="K = 2"):
        stacked_scores(torch.zeros(3, 3, 2), torch.zeros(2, 3, 2))


def test_memory_stays_far_below_n_by_n() -> None:
    """N = 6000 would need 144 MB for one N x N matrix; all tensors torch makes here are a few MB each."""
    n, largest = 6000, 0
    z = torch.randn(n, 8)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    with Watch():
        contrast_scores(z, z)
    assert largest <= 512 * 8 * 512 * 4
