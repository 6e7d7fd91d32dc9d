"""Eqs. 4 and 5."""

from __future__ import annotations

import math

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.functional.confidence import confidence, entropy
from fedloom.functional.voting import capped, knowing, label_vote, own_votes, quorum_filter
from reference import labels as slow


def vote_of(rows: list[list[float]], drawn: int | None = None) -> tuple[int, int]:
    """Label and count of one sample, from each client's probabilities."""
    logits = torch.tensor(rows, dtype=torch.float64).log().clamp(min=-1e4)[:, None]  # (K, 1, C)
    vote = label_vote(
        logits.argmax(-1),
        confidence(entropy(logits)),
        len(rows[0]),
        None if drawn is None else torch.tensor([drawn]),
    )
    return int(vote.labels), int(vote.counts)


def test_golden_vote() -> None:
    assert vote_of([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.34, 0.33, 0.33], [0.6, 0.3, 0.1]]) == (0, 3)


def test_a_sure_client_wins_by_weight_and_the_filter_drops_it() -> None:
    label, count = vote_of([[1, 0, 0], [0.05, 0.9, 0.05], [0.05, 0.9, 0.05]])
    assert (label, count) == (0, 1)
    assert not quorum_filter(torch.tensor([count]), 3, 0.5)


def test_equal_entropies_are_a_majority_vote() -> None:
    torch.manual_seed(0)
    predicted = torch.randint(0, 4, (7, 60))
    vote = label_vote(predicted, torch.full((7, 60), 0.3), 4)
    for i in range(60):
        counts = torch.bincount(predicted[:, i], minlength=4)
        assert vote.counts[i] == counts.max()
        assert vote.labels[i] == counts.argmax()


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize(
    ("predicted", "weights", "drawn", "label", "count"),
    [
        ((2, 1, 1), (1.0, 0.5, 0.5), None, 1, 2),  # more raw votes
        ((2, 1, 1), (1.0, 0.5, 0.5), 2, 1, 2),  # raw votes come before the drawn label
        ((2, 1), (0.7, 0.7), 2, 2, 1),  # the drawn label
        ((2, 1), (0.7, 0.7), 0, 1, 1),  # which must be among the tied
        ((2, 1), (0.7, 0.7), -1, 1, 1),  # or known at all
        ((2, 1), (0.7, 0.7), None, 1, 1),  # the lowest index
        ((2, 1), (1.0, 1.0 + 5e-10), 2, 2, 1),  # a tie within 1e-9
        ((2, 1), (1.0, 1.0 + 5e-9), 2, 1, 1),  # none beyond
        ((2, 1), (0.0, 0.0), None, 1, 1),  # all weights zero: votes still count
        ((2, 0, 2), (0.0, 0.0, 0.0), None, 2, 2),
        ((-1, 2), (5.0, 0.0), None, 2, 1),  # absent clients have no say, whatever their weight
        ((-1, 2), (math.nan, 1.0), None, 2, 1),
        ((-1, -1), (1.0, 1.0), 2, -1, 0),  # zero voters
    ],
)
def test_tie_rules(
    predicted: tuple[int, ...], weights: tuple[float, ...], drawn: int | None, label: int, count: int
) -> None:
    w = torch.tensor(weights, dtype=torch.float64)[:, None]
    for order in (slice(None), torch.arange(len(weights) - 1, -1, -1)):
        vote = label_vote(
            torch.tensor(predicted)[:, None][order],
            w[order],
            3,
            None if drawn is None else torch.tensor([drawn]),
        )
        assert (int(vote.labels), int(vote.counts)) == (label, count)
    assert vote.labels.dtype == vote.counts.dtype == torch.int64


@pytest.mark.parametrize("clients", [1, 2, 5, 12])
@pytest.mark.parametrize("ties", [True, False])
def test_against_the_slow_reference_and_any_order_of_clients(clients: int, ties: bool) -> None:
    torch.manual_seed(clients)
    predicted = torch.randint(-1, 5, (clients, 200), dtype=torch.int32)
    weights = torch.randint(1, 4, (clients, 200)) / 4 if ties else torch.rand(clients, 200)
    drawn = torch.randint(0, 5, (200,))
    vote = label_vote(predicted, weights, 5, drawn)
    for i in range(200):
        expected = slow.vote(predicted[:, i].tolist(), weights[:, i].tolist(), 5, int(drawn[i]))
        assert (int(vote.labels[i]), int(vote.counts[i])) == expected
    order = torch.randperm(clients)
    again = label_vote(predicted[order], weights[order], 5, drawn)
    assert torch.equal(again.labels, vote.labels)
    assert torch.equal(again.counts, vote.counts)


def test_nobody_and_nothing() -> None:
    vote = label_vote(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3), 2)
    assert (vote.labels.tolist(), vote.counts.tolist()) == ([-1] * 3, [0] * 3)
    assert len(label_vote(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0), 2).labels) == 0


def test_votes_that_make_no_sense_name_the_client() -> None:
    good = torch.zeros(3, 2, dtype=torch.int64)
    bad = good.clone()
    bad[1, 0] = 4
    with pytest.raises(BadInput, match="client 1 voted for class 4 on sample 0; allowed: 0 to 3"):
        label_vote(bad, torch.ones(3, 2), 4)
    bad[1, 0] = -2
    with pytest.raises(BadInput, match="class -2"):
        label_vote(bad, torch.ones(3, 2), 4)
    weights = torch.ones(3, 2)
    weights[2, 1] = math.inf
    with pytest.raises(BadInput, match="client 2 has weight inf on sample 1"):
        label_vote(good, weights, 4)
    with pytest.raises(ValueError, match=r"\(3, 2\) and weights \(2, 2\)"):
        label_vote(good, torch.ones(2, 2), 4)
    with pytest.raises(ValueError, match="drawn"):
        label_vote(good, torch.ones(3, 2), 4, torch.zeros(3))


@pytest.mark.parametrize(
    ("clients", "gamma", "least"),
    [
        *((4, g, n) for g, n in ((0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4))),
        *((8, g, n) for g, n in ((0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8))),
        *((12, g, n) for g, n in ((0.25, 3), (0.5, 6), (0.75, 9))),
        *((20, g, n) for g, n in ((0.25, 5), (0.5, 10), (0.75, 15))),
        *((1, g, 1) for g in (0.0, 0.5, 1.0)),
        (8, 0.0, 1),
        (3, 0.5, 2),
        (10, 0.3, 3),  # 0.3 * 10 must not ask for four
        (100, 0.07, 7),  # 7.000000000000001
    ],
)
def test_quorum(clients: int, gamma: float, least: int) -> None:
    counts = torch.arange(clients + 1)
    kept = quorum_filter(counts, clients, gamma)
    assert kept.tolist() == [n >= least for n in range(clients + 1)]
    assert kept.tolist() == [slow.keep(n, clients, gamma) for n in range(clients + 1)]


def test_quorum_outside_its_range() -> None:
    for gamma in (-0.1, 1.1, math.nan):
        with pytest.raises(BadInput, match="gamma"):
            quorum_filter(torch.ones(1), 2, gamma)


def test_a_quorum_of_those_who_know_the_class() -> None:
    """A class that two of eight clients hold can be kept by these two; of all eight it never could."""
    known = torch.ones(8, 3, dtype=torch.bool)
    known[2:, 1] = False
    labels, counts = torch.tensor([0, 1, 1, -1]), torch.tensor([4, 2, 1, 0])
    voters = knowing(labels, known)
    assert voters.tolist() == [8, 2, 2, 0]
    assert quorum_filter(counts, voters, 0.5).tolist() == [True, True, True, False]
    assert quorum_filter(counts, voters, 1.0).tolist() == [False, True, False, False]
    assert quorum_filter(counts, 8, 0.5).tolist() == [True, False, False, False]


def test_votes_of_a_modality_by_hand():
    predicted = torch.tensor([[0, 1, 2, -1], [0, 1, 0, 1], [1, 1, 2, -1]])
    labels, modalities = torch.tensor([0, 1, 2, -1]), ["image", "image", "text"]
    own = {least: own_votes(predicted, labels, modalities, least) for least in (0, 1, 2)}
    assert {m: passed.tolist() for m, passed in own[0].items()} == {"image": [True] * 4, "text": [True] * 4}
    assert {m: passed.tolist() for m, passed in own[1].items()} == {
        "image": [True, True, True, False],
        "text": [False, True, True, False],
    }
    assert own[2]["image"].tolist() == [True, True, False, False]
    assert not own[2]["text"].any()  # there is but one


def test_no_client_has_more_than_its_share() -> None:
    weights = torch.tensor([[10.0, 10.0, 10.0, 0.0], [1.0, 8.0, 1.0, 0.0], [1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 0.0, 0.0]])
    found = capped(weights, 0.4)
    # 0.4 of t + 3; twice 0.4 of 2 t + 2; two voters, of whom neither can have 0.4: equal; one voter
    assert torch.allclose(found[:, 0], torch.tensor([2.0, 1.0, 1.0, 1.0]))
    assert torch.allclose(found[:, 1], torch.tensor([4.0, 4.0, 1.0, 1.0]))
    assert found[:, 2:].tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
    assert torch.equal(capped(weights, 1.0), weights)
    assert capped(weights[:0], 0.4).shape == (0, 4)
    with pytest.raises(BadInput, match=r"share of a vote is 0.0; it lies in \(0, 1\]"):
        capped(weights, 0.0)


def test_the_cap_holds_and_touches_the_largest_alone() -> None:
    weights = torch.rand(8, 200, generator=torch.Generator().manual_seed(0)).pow(4)
    found = capped(weights, 0.2)
    assert bool((found.amax(0) <= 0.2 * found.sum(0) * (1 + 1e-5)).all())
    cut = found < weights
    assert bool(cut.any())
    assert torch.equal(found[~cut], weights[~cut])
    assert torch.allclose(capped(weights[[3, 1, 0, 2, 7, 5, 4, 6]], 0.2), found[[3, 1, 0, 2, 7, 5, 4, 6]])
