"""What is told of the scores of clients' representations against a bank."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from bank_and_clients import EYE, GOLDEN, clients
from torch import Tensor

from fedloom.functional.similarity import score_facts


def facts_slowly(z: Tensor, bank: Tensor, tau: float) -> tuple[list[Any], list[Any], list[Any]]:
    """One client, one sample after the other, in plain Python."""
    right, nats, variance = [], [], []
    for n, row in enumerate(z.tolist()):
        scores = []
        for anchor in bank.tolist():
            lengths = math.hypot(*row) * math.hypot(*anchor)
            scores.append(sum(a * b for a, b in zip(row, anchor)) / lengths if lengths else 0.0)
        right.append(all(s < scores[n] for j, s in enumerate(scores) if j != n))
        total = sum(math.exp(s / tau) for s in scores)
        p = [math.exp(s / tau) / total for s in scores]
        nats.append(-sum(x * math.log(x) for x in p if x > 0))
        mean = sum(scores) / len(scores)
        variance.append(sum((s - mean) ** 2 for s in scores) / len(scores))
    return right, nats, variance


@pytest.mark.parametrize("tile", [1, 7, 30, 512])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_score_facts_against_the_slow_reference_in_tiles(tile: int, temperature: float) -> None:
    z, bank = (x.float() for x in clients(3))
    bank = 2 * bank  # lengths count for nothing
    got = score_facts(3 * z, bank, temperature, tile=tile)
    assert 0 < got.right.float().mean() < 1
    for k in range(3):
        right, nats, variance = facts_slowly(z[k], bank, temperature)
        assert got.right[k].tolist() == right
        assert got.entropy[k].tolist() == pytest.approx(nats, abs=1e-4)
        assert got.variance[k].tolist() == pytest.approx(variance, abs=1e-5)
    whole = score_facts(3 * z, bank, temperature)
    assert torch.equal(got.right, whole.right)
    torch.testing.assert_close(got.entropy, whole.entropy)
    torch.testing.assert_close(got.variance, whole.variance)


def test_golden_score_facts() -> None:
    """Cosines (1, 0) and (0, 1); then those crossed."""
    got = score_facts(GOLDEN, EYE)
    p = math.e / (math.e + 1)
    nats = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert got.right.tolist() == [[True, True], [False, False]]
    assert got.entropy.flatten().tolist() == pytest.approx([nats] * 4)
    assert got.variance.flatten().tolist() == pytest.approx([0.25] * 4)
    sure = score_facts(GOLDEN, EYE, 0.01)
    assert sure.entropy.max() < 1e-6


def test_a_tie_does_not_count_as_right() -> None:
    """Two partners alike; a row of zeros, which is as near to all; one sample alone, which has no rival."""
    bank = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    z = bank.clone()[None]
    assert score_facts(z, bank).right.tolist() == [[False, False, True]]
    z[0, 2] = 0
    got = score_facts(z, bank)
    assert got.right.tolist() == [[False, False, False]]
    assert got.entropy[0, 2].item() == pytest.approx(math.log(3))
    assert got.variance[0, 2].item() == 0.0
    assert score_facts(z[:, :1], bank[:1]).right.tolist() == [[True]]


def test_permuting_clients_or_samples_permutes_score_facts() -> None:
    z, bank = (x.float() for x in clients())
    expected = score_facts(z, bank)
    order, at = torch.tensor([2, 0, 3, 1]), torch.randperm(30)
    for got, of in (
        (score_facts(z[order], bank), order),
        (score_facts(z[:, at], bank[at]), (slice(None), at)),
    ):
        assert torch.equal(got.right, expected.right[of])
        torch.testing.assert_close(got.entropy, expected.entropy[of])
        torch.testing.assert_close(got.variance, expected.variance[of])


def test_score_facts_have_no_gradient_and_name_shapes_that_disagree() -> None:
    z, bank = (x.float() for x in clients())
    got = score_facts(z.requires_grad_(), bank)
    assert not got.entropy.requires_grad
    assert not got.variance.requires_grad
    with pytest.raises(ValueError, match=r"\(4, 30, 6\) must be \(K, P, D\) of \(29, 6\)"):
        score_facts(z, bank[:29])
