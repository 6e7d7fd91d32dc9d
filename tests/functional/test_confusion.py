"""A vote that learns who takes which class for which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.functional.confusion import confusion_vote, learned_vote
from fedloom.functional.voting import vote_sums

CLASSES, SAMPLES = 5, 400


def votes(*right: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The true classes, and labels by clients that are right so often and else name any class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, SAMPLES)
    told = [np.where(rng.random(SAMPLES) < share, truth, rng.integers(0, CLASSES, SAMPLES)) for share in right]
    return torch.from_numpy(truth), torch.from_numpy(np.stack(told))


def start(told: Tensor) -> Tensor:
    return vote_sums(told, torch.ones(told.shape), CLASSES)


def right(labels: Tensor, truth: Tensor) -> float:
    return float((labels == truth).double().mean())


def test_by_hand() -> None:
    """Two samples, two classes, one voter: one step is worked out on paper."""
    told, belief = torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(confusion_vote(told, belief, smoothing=1.0, iterations=0), belief.double())
    # One answer of each class, and half a one of either for smoothing: 1.5 of 2, 0.5 of 2.
    probable = confusion_vote(told, belief, smoothing=1.0, iterations=1)
    assert torch.allclose(probable, torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64))


def test_noise_counts_for_nothing() -> None:
    truth, told = votes(0.7, 0.6, 0.6, 0.0, 0.0, 0.0)
    probable, alone = confusion_vote(told, start(told)), confusion_vote(told[:3], start(told[:3]))
    assert right(probable.argmax(1), truth) >= right(alone.argmax(1), truth) - 0.03
    assert right(probable.argmax(1), truth) > right(start(told).argmax(1), truth) + 0.05


def test_one_that_always_errs_in_the_same_way_helps() -> None:
    truth, told = votes(0.6, 0.6, 0.6)
    flipped = torch.cat([told, ((truth + 1) % CLASSES)[None]])
    probable = confusion_vote(flipped, start(told))
    assert right(probable.argmax(1), truth) > 0.97


def test_a_prompt_that_confuses_names_helps() -> None:
    truth, told = votes(0.5, 0.5, 0.5)
    swapped = torch.tensor([1, 0, 3, 2, 4])[truth]
    with_prompt = learned_vote(told, start(told), swapped)
    without = learned_vote(told, start(told), torch.full((SAMPLES,), -1))
    assert right(with_prompt.labels, truth) > right(without.labels, truth) + 0.1
    assert torch.equal(with_prompt.counts, (told == with_prompt.labels).sum(0))


def test_who_is_absent_says_nothing() -> None:
    truth, told = votes(0.7, 0.7, 0.7)
    absent = torch.cat([told, torch.full((1, SAMPLES), -1)])
    assert torch.equal(confusion_vote(absent, start(told)), confusion_vote(told, start(told)))
    told[:, 7] = -1
    found = learned_vote(told, start(told), truth)  # the prompt alone is no vote
    assert found.labels[7] == -1
    assert found.counts[7] == 0


def test_nobody_votes() -> None:
    nobody = torch.zeros(0, 3, dtype=torch.int64)
    found = learned_vote(nobody, torch.zeros(3, CLASSES), torch.tensor([0, 1, -1]))
    assert found.labels.tolist() == [-1, -1, -1]
    assert learned_vote(nobody[:, :0], torch.zeros(0, CLASSES), torch.zeros(0)).labels.shape == (0,)


def test_the_order_of_clients_does_not_matter() -> None:
    _, told = votes(0.7, 0.5, 0.3, 0.1)
    there, back = confusion_vote(told, start(told)), confusion_vote(told.flip(0), start(told))
    assert torch.allclose(there, back, atol=1e-9)


def test_many_classes_take_no_square_of_them() -> None:
    """Hundred clients, 10 000 classes: the matrices would take 80 GB."""
    rng = np.random.default_rng(0)
    told = torch.from_numpy(rng.integers(0, 10_000, (100, 8)))
    probable = confusion_vote(told, torch.ones(8, 10_000), iterations=2)
    assert torch.allclose(probable.sum(1), torch.ones(8, dtype=torch.float64))


def test_what_is_refused() -> None:
    told = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(BadInput, match="label is 5; allowed: 0 to 4"):
        confusion_vote(torch.full((2, 3), 5), torch.ones(3, CLASSES))
    with pytest.raises(BadInput, match="finite and not negative"):
        confusion_vote(told, torch.full((3, CLASSES), torch.nan))
    with pytest.raises(BadInput, match="smoothing is 0"):
        confusion_vote(told, torch.ones(3, CLASSES), smoothing=0)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        confusion_vote(told, torch.ones(4, CLASSES))
