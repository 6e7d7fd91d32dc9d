"""OGM-GE: who is slowed and by how much, what is noised, and who is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint import CLIENTS, FEDAVG, SIGHT, SOUND, Joint, alone, learned, resumes, same

from fedloom.methods import fedavg
from fedloom.methods.context import rows
from fedloom.methods.ogm_ge import METHOD, OGMGESettings, _Modulation, coefficients, stream_scores
from fedloom.models.clients.multimodal import group_of

OGM = "fedloom.methods.ogm_ge:METHOD"


def batch(half, index):
    return half.context.ready(rows(half.context.private, index))


def modulated(half, index=None, **settings):
    """A batch's coefficients, and gradients before and after."""
    half.settings = OGMGESettings(**settings)
    index = torch.arange(6) if index is None else index
    m = _Modulation(half, 1)
    half.context.model.zero_grad()
    m.objective(batch(half, index), index).backward()
    before = {n: p.grad.clone() for n, p in half.context.model.named_parameters() if p.grad is not None}
    m.adjust()
    after = {n: p.grad.clone() for n, p in half.context.model.named_parameters() if p.grad is not None}
    return m.k, before, after


def slowed(n, g) -> bool:
    return group_of(n) is not None and g.ndim >= 2


def test_coefficients_by_hand():
    first, second = torch.tensor([0.9, 0.6]), torch.tensor([0.3, 0.2])
    k = 1 - np.tanh(0.5 * 3.0)
    assert coefficients(first, second, 0.5) == pytest.approx((k, 1.0))
    assert coefficients(second, first, 0.5) == pytest.approx((1.0, k))
    assert coefficients(first, first, 0.5) == pytest.approx((1 - np.tanh(0.5), 1.0))  # a tie: the first kind
    assert coefficients(first, second, 0.0) == (1.0, 1.0)


@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
def test_only_the_dominant_streams_weights_are_slowed(fusion):
    half = alone(OGM, {"noise": False}, fusion=fusion)
    k, before, after = modulated(half, alpha=0.8, noise=False)
    (dominant,) = [m for m, v in k.items() if v < 1]
    assert 0 < k[dominant] < 1 - np.tanh(0.8)
    for n, g in before.items():
        factor = k[dominant] if group_of(n) == dominant and slowed(n, g) else 1.0
        assert torch.equal(after[n], g * factor)


def test_the_noise_has_the_gradients_own_deviation():
    """Of the gradient before it is slowed, on both streams' weights; nowhere else."""
    half = alone(OGM)
    k, before, after = modulated(half, alpha=0.8)
    noised = set()
    for n, g in before.items():
        if not slowed(n, g):
            assert torch.equal(after[n], g)
            continue
        noise = after[n] - k[group_of(n)] * g
        assert noise.std().item() == pytest.approx(g.std().item(), rel=0.3)
        noised.add(group_of(n))
    assert noised == {"audio", "image"}
    _, _, again = modulated(half, alpha=0.8)
    assert all(torch.equal(again[n], v) for n, v in after.items())


def test_only_samples_of_both_kinds_say_who_is_dominant():
    half = alone(OGM, blanks=3)
    site = half.context
    index = torch.arange(9)
    both = index[site.private["present"][index].all(1)]
    assert len(both) == 3
    site.model.eval()  # features of a sample do not depend on the others
    h = site.model.features(**batch(half, both))
    y = site.private_labels[both]
    q = [stream_scores(site.model, m, h[m]).softmax(1)[range(3), y].detach() for m in site.model.kinds]
    k, _, _ = modulated(half, index, alpha=0.8)
    assert tuple(k.values()) == pytest.approx(coefficients(q[0], q[1], 0.8), rel=1e-5)


def test_a_batch_without_such_samples_is_left_alone():
    half = alone(OGM, blanks=3)
    k, before, after = modulated(half, torch.arange(6), alpha=0.8)
    assert k == {}
    assert same({n: g.numpy() for n, g in before.items()}, {n: g.numpy() for n, g in after.items()})


@pytest.mark.parametrize("settings", [{"alpha": 0.0, "noise": False}, {"starts": 3}, {"ends": 1, "starts": 2}], ids=str)
def test_without_modulation_it_is_fedavg(settings):
    plain, ours = Joint(FEDAVG), Joint(OGM, **settings)
    plain.run(2)
    ours.run(2)
    assert same(plain.server.state()[0], ours.server.state()[0])
    assert all(same(plain.clients()[k], ours.clients()[k]) for k in CLIENTS)


@pytest.mark.parametrize("settings", [{"noise": False}, {"alpha": 0.0}], ids=str)
def test_either_part_makes_a_difference(settings):
    assert not same(learned(alone(FEDAVG)), learned(alone(OGM, settings)))


@pytest.mark.parametrize("owned", [SOUND, SIGHT], ids=" ".join)
def test_a_client_of_one_kind_trains_as_in_fedavg(owned):
    one, two = (learned(alone(m, owned=owned)) for m in (FEDAVG, OGM))
    assert same(one, two)


def test_it_ends_after_its_last_round():
    toy, whole = Joint(OGM, ends=1), Joint(OGM)
    for x in (toy, whole):
        x.run(1)
    assert same(toy.server.state()[0], whole.server.state()[0])
    plain = Joint(FEDAVG).go_on(toy)
    for x in (toy, whole, plain):
        x.run(1)
    assert same(toy.server.state()[0], plain.server.state()[0])
    assert not same(toy.server.state()[0], whole.server.state()[0])


def test_the_messages_are_fedavgs():
    settings = OGMGESettings()
    assert METHOD.verbs(settings) == fedavg.METHOD.verbs(settings)
    toy, plain = Joint(OGM), Joint(FEDAVG)
    toy.run(2)
    plain.run(2)
    assert toy.ledger.totals() == plain.ledger.totals()
    assert (METHOD.optimizers, METHOD.tasks) == (("sgd",), {"joint"})


def test_same_bits_in_any_order_and_after_a_stop():
    resumes(OGM)
