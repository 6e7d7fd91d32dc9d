"""FedAFD's similarity-guided ensemble and the distance to it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from bank_and_clients import EYE, GOLDEN, clients
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.functional.contrast import contrast_weights
from fedloom.functional.norms import unit
from fedloom.functional.similarity import distillation_distance, similarity_ensemble, similarity_weights, weight_entropy
from reference import fusion as creamfl
from reference import similarity as slow


@pytest.mark.parametrize(("temperature", "first"), [(1.0, 0.731059), (0.5, 0.880797), (2.0, 0.622459)])
def test_golden(temperature: float, first: float) -> None:
    """s = 1 - log(e + 1) and 0 - log(1 + e) at tau = 1: they differ by 1 / tau."""
    got = similarity_ensemble(GOLDEN, EYE, temperature)
    assert got.weights.flatten().tolist() == pytest.approx([first] * 2 + [1 - first] * 2, abs=2e-6)
    assert got.representations[0].tolist() == pytest.approx([first, 1 - first], abs=2e-6)
    if temperature == 1:
        assert weight_entropy(got.weights).tolist() == pytest.approx([0.582203] * 2, abs=2e-6)


def test_a_realistic_pair_is_weighed_mildly() -> None:
    """True-pair similarity 0.9 beside 0, others 0: about 0.71 to 0.29."""
    bank = torch.eye(65)[:64]  # the last axis is nobody's
    nothing = torch.zeros(64, 65)
    nothing[:, 64] = 1
    likes = 0.9 * bank + math.sqrt(1 - 0.81) * nothing
    weights = similarity_weights(torch.stack([likes, nothing]), bank)
    assert weights[0].tolist() == pytest.approx([0.71] * 64, abs=0.01)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("tile", [1, 3, 512])
@pytest.mark.parametrize("cosine", [True, False])
def test_against_the_slow_reference(temperature: float, tile: int, cosine: bool) -> None:
    z, bank = clients()
    torch.manual_seed(0)
    here = torch.rand(4, 30) < 0.6
    here[:, 0] = False
    got = similarity_ensemble(z, bank, temperature, here, tile=tile, cosine=cosine)
    w = slow.weights(z.tolist(), bank.tolist(), temperature, here.tolist())
    torch.testing.assert_close(got.weights, torch.tensor(w, dtype=torch.float64))
    expected = slow.aggregate(z.tolist(), w, here.tolist())
    torch.testing.assert_close(got.representations, torch.tensor(expected, dtype=torch.float64))
    entropy = [slow.entropy([row[i] for row in w]) for i in range(30)]
    assert weight_entropy(got.weights).tolist() == pytest.approx(entropy, abs=1e-12)


def test_weights_are_a_simplex_and_the_sum_is_not_brought_to_unit_length() -> None:
    z, bank = clients()
    got = similarity_ensemble(z, bank)
    assert (got.weights > 0).all()
    torch.testing.assert_close(got.weights.sum(0), torch.ones(30, dtype=torch.float64))
    assert (got.representations.norm(dim=1) < 1).all()


def test_one_client_is_taken_as_it_is() -> None:
    z, bank = clients(1)
    got = similarity_ensemble(z, bank)
    assert torch.equal(got.representations, z[0])
    assert torch.equal(got.weights, torch.ones(1, 30, dtype=torch.float64))
    assert weight_entropy(got.weights).tolist() == [0.0] * 30


def test_equal_clients_weigh_the_same() -> None:
    z, bank = clients(1)
    weights = similarity_weights(z.expand(3, -1, -1), bank)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))
    assert weight_entropy(weights).tolist() == pytest.approx([math.log(3)] * 30)


def test_permuting_clients_or_samples_permutes_weights() -> None:
    z, bank = clients()
    expected = similarity_ensemble(z, bank)
    order, rows = torch.tensor([2, 0, 3, 1]), torch.randperm(30)
    torch.testing.assert_close(similarity_weights(z[order], bank), expected.weights[order])
    torch.testing.assert_close(similarity_ensemble(z[order], bank).representations, expected.representations)
    torch.testing.assert_close(similarity_weights(z[:, rows], bank[rows]), expected.weights[:, rows])


def test_a_shuffled_client_weighs_less() -> None:
    z, bank = clients(2, 50)
    z[1] = z[0].roll(1, 0)
    weights = similarity_weights(z, bank)
    assert weights[1].mean() < 0.45 < 0.55 < weights[0].mean()


def test_high_temperature_is_the_plain_mean() -> None:
    z, bank = clients()
    got = similarity_ensemble(z, bank, 1e8)
    torch.testing.assert_close(got.weights, torch.full_like(got.weights, 0.25))
    torch.testing.assert_close(got.representations, z.mean(0))


def test_at_low_temperature_all_that_find_the_sample_share_it() -> None:
    """tau -> 0: s is 0 for whoever is nearest to the right row of the bank, however near, and -infinity else."""
    z, bank = clients()
    right = (z @ bank.T).argmax(-1) == torch.arange(30)  # (K, P)
    found = right.any(0)
    expected = right.double() / right.sum(0).clamp(min=1)
    assert 0 < found.sum() < 30
    got = similarity_weights(z, bank, 1e-4)
    torch.testing.assert_close(got[:, found], expected[:, found])
    torch.testing.assert_close(weight_entropy(got)[found], right.sum(0)[found].double().log())


def test_two_weights_differ_by_less_than_e_to_the_fourth() -> None:
    """The farthest apart that unit rows can be: one client like its own alone, the other like all others alone."""
    bank = -torch.ones(3000, 1, dtype=torch.float64)
    bank[0] = 1
    z = torch.stack([torch.ones_like(bank), -torch.ones_like(bank)])
    ratio = (similarity_weights(z, bank)[0, 0] / similarity_weights(z, bank)[1, 0]).item()
    assert 0.99 * math.e**4 < ratio < math.e**4
    z, bank = clients(6, 100, 3)
    weights = similarity_weights(z, bank)
    assert (weights.amax(0) / weights.amin(0)).max() < math.e**4


def test_creamfl_differs_by_its_bank_alone() -> None:
    z, bank = clients()
    same = contrast_weights(z, bank, include_self=True, cosine=False)
    torch.testing.assert_close(similarity_weights(z, bank, cosine=False), same, rtol=0, atol=0)
    scores = [creamfl.scores(rows, bank.tolist(), include_self=True, raw=True) for rows in z.tolist()]
    expected = creamfl.weights(scores, [[True] * 30] * 4)
    torch.testing.assert_close(similarity_weights(z, bank), torch.tensor(expected, dtype=torch.float64))
    other = unit(torch.randn_like(bank))
    assert not torch.allclose(similarity_weights(z, bank), contrast_weights(z, other, include_self=True))


def test_longer_rows_earn_nothing_with_cosines() -> None:
    z, bank = clients()
    long = z * torch.tensor([1.0, 1.0, 1.0, 50.0])[:, None, None]
    torch.testing.assert_close(similarity_weights(long, bank), similarity_weights(z, bank))
    assert not torch.allclose(similarity_weights(long, bank, cosine=False), similarity_weights(z, bank, cosine=False))


def test_absent_clients_have_no_part_whatever_their_rows_hold() -> None:
    z, bank = clients()
    torch.manual_seed(1)
    here = torch.rand(4, 30) < 0.5
    here[:, 0] = False
    here[:, 1] = torch.tensor([False, True, False, False])
    expected = similarity_ensemble(z, bank, present=here)
    for rubbish in (math.nan, math.inf, 1e30):
        broken = z.masked_fill(~here[..., None], rubbish)
        got = similarity_ensemble(broken, bank, present=here)
        assert torch.equal(got.weights, expected.weights)
        assert torch.equal(got.representations, expected.representations)
        assert weight_entropy(got.weights).isfinite().all()
    assert (expected.weights[~here] == 0).all()
    torch.testing.assert_close(expected.weights.sum(0), here.any(0).double())
    assert torch.equal(expected.representations[1], z[1, 1])
    assert expected.representations[0].tolist() == [0.0] * 6
    absent = similarity_ensemble(z, bank, present=torch.tensor([True, False, True, True])[:, None].expand(4, 30))
    torch.testing.assert_close(absent.representations, similarity_ensemble(z[[0, 2, 3]], bank).representations)


def test_a_bad_row_of_a_present_client_spoils_its_sample_alone() -> None:
    z, bank = clients()
    z[2, 5] = math.nan
    got = similarity_ensemble(z, bank)
    assert torch.isnan(got.representations).any(1).nonzero().tolist() == [[5]]


def test_zero_rows_and_few_samples_stay_finite() -> None:
    z, bank = clients()
    z[0, 3], bank[4] = 0.0, 0.0
    assert similarity_ensemble(z, bank).representations.isfinite().all()
    assert unit(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
    torch.testing.assert_close(similarity_weights(z[:, :1], bank[:1]), torch.full_like(z[:, :1, 0], 0.25))
    assert similarity_ensemble(z[:, :0], bank[:0]).representations.shape == (0, 6)


def test_no_gradient_and_the_type_is_kept() -> None:
    z, bank = clients()
    got = similarity_ensemble(z.float().requires_grad_(), bank.float().requires_grad_())
    assert got.representations.dtype == got.weights.dtype == torch.float32
    assert not got.representations.requires_grad
    assert not got.weights.requires_grad


def test_memory_stays_far_below_p_by_p() -> None:
    """P = 20 000 would need 1.6 GB for one P x P matrix."""
    p, largest = 20_000, 0
    z = torch.randn(1, p, 8)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    with Watch():
        similarity_ensemble(z, z[0])
    assert largest <= 512 * 8 * 512 * 4


def test_bad_input_is_named() -> None:
    z, bank = clients()
    with pytest.raises(BadInput, match="temperature > 0"):
        similarity_weights(z, bank, 0.0)
    with pytest.raises(ValueError, match=r"\(4, 30, 6\) must be .* bank \(29, 6\)"):
        similarity_weights(z, bank[:29])
    with pytest.raises(ValueError, match="K >= 1"):
        similarity_ensemble(z[:0], bank)
    with pytest.raises(ValueError, match=r"present \(4,\)"):
        similarity_weights(z, bank, present=torch.ones(4, dtype=torch.bool))


# --------------------------------------------------------------------------------------------------------- distance


@pytest.mark.parametrize(("kind", "expected"), [("mse", 6.25), ("l2", 2.5)])
def test_golden_distance(kind: Any, expected: float) -> None:
    """Differences (3, 4) and (0, 0)."""
    a = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    b = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert distillation_distance(a, b, kind).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mse", "l2"])
def test_distance_against_the_slow_reference_and_finite_differences(kind: Any) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 4, dtype=torch.float64)
    got = distillation_distance(a, b, kind)
    assert got.item() == pytest.approx(slow.distance(a.tolist(), b.tolist(), kind))
    assert torch.autograd.gradcheck(lambda x: distillation_distance(x, b, kind), (a,))


@pytest.mark.parametrize("kind", ["mse", "l2"])
def test_equal_representations_cost_nothing_and_pull_nowhere(kind: Any) -> None:
    z, bank = clients(1)
    target = similarity_ensemble(z, bank).representations
    own = target.clone().requires_grad_()
    loss = distillation_distance(own, target, kind)
    loss.backward()
    assert loss.item() == 0.0
    assert own.grad is not None
    assert own.grad.abs().max() == 0.0


@pytest.mark.parametrize("kind", ["mse", "l2"])
def test_no_gradient_reaches_the_target(kind: Any) -> None:
    a, b = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    distillation_distance(a, b, kind).backward()
    assert b.grad is None
    assert a.grad is not None
    assert (a.grad < 0).all()


def test_distance_of_nothing_and_bad_options() -> None:
    none = torch.zeros(0, 3, requires_grad=True)
    distillation_distance(none, torch.zeros(0, 3), "l2").backward()
    z: Any = torch.zeros(2, 3)
    with pytest.raises(BadInput, match="unknown distillation distance"):
        distillation_distance(z, z, "l1")
    with pytest.raises(ValueError, match=r"\(2, 3\) and target \(3, 3\)"):
        distillation_distance(z, torch.zeros(3, 3))
