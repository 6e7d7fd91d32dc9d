"""The training loop: what it does with a loss that is not finite, and with an optimiser taken up again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedloom.errors import FedloomError
from fedloom.methods.state import load_optimizer_state, optimizer_state
from fedloom.models.fit import adamw, cosine, fit, index_batches


def net():
    """A convolution in channels-last memory, as the UNet is, and a linear layer."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(6 * 4, 2))


def loss_of(model):
    def loss(seed):
        x = torch.randn((3, 4, 4, 4), generator=torch.Generator().manual_seed(seed))
        return model(x).square().mean()

    return loss


def test_loss_that_is_not_finite():
    model, seen = net(), []
    optimizer = adamw(model.parameters(), 1e-2)

    def loss(step):
        seen.append([p.detach().clone() for p in model.parameters()])
        return loss_of(model)(step) * (float("nan") if step == 2 else 1.0)

    with pytest.raises(FedloomError, match="client image-3: the loss is nan at step 2"):
        fit(optimizer, range(5), loss, name="client image-3", schedule=cosine(5))
    assert len(seen) == 3
    assert not torch.equal(seen[0][0], seen[1][0])
    for kept, now in zip(seen[2], model.parameters()):
        assert torch.equal(kept, now)
    assert optimizer.param_groups[0]["lr"] == 1e-2  # the schedule leaves no trace


def test_no_batches():
    model = net()
    assert fit(adamw(model.parameters(), 1e-2), [], loss_of(model)) is None
    assert list(index_batches(0, 4, 3, np.random.default_rng(0))) == []


def test_every_sample_once_an_epoch():
    batches = list(index_batches(7, 3, 7, np.random.default_rng(0)))
    assert [len(b) for b in batches] == [3] * 7
    drawn = np.concatenate(batches)
    for epoch in range(3):
        assert sorted(drawn[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert [len(b) for b in index_batches(2, 5, 2, np.random.default_rng(0))] == [2, 2]


def test_optimizer_taken_up_again():
    """An unbroken training and one that is saved, loaded elsewhere and gone on with: the same bits."""
    whole, first, second = net(), net(), net()
    fit(adamw(whole.parameters(), 1e-2), range(6), loss_of(whole))

    optimizer = adamw(first.parameters(), 1e-2)
    fit(optimizer, range(3), loss_of(first))
    arrays = {k: np.asarray(v, order="C") for k, v in optimizer_state(optimizer).items()}  # as a file has them
    second.load_state_dict(first.state_dict())
    resumed = adamw(second.parameters(), 1e-2)
    load_optimizer_state(resumed, arrays)
    moment = next(iter(resumed.state_dict()["state"].values()))["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    fit(resumed, range(3, 6), loss_of(second))
    for a, b in zip(whole.parameters(), second.parameters()):
        assert torch.equal(a, b)
