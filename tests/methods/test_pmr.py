"""PMR: what prototypes say, who is slow and by how much, and whom each term teaches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from joint import CLIENTS, FEDAVG, SIGHT, SOUND, Joint, alone, client, learned, resumes, same

from fedloom.federation.messages import Empty
from fedloom.methods import fedavg
from fedloom.methods.fedavg import FedAvgAverage
from fedloom.methods.pmr import METHOD, PMRSettings, entropy, prototype_scores, slow_kind
from fedloom.models.clients.multimodal import group_of

PMR = "fedloom.methods.pmr:METHOD"
NAN = float("nan")


# ------------------------------------------------------------------------------------------------- by hand


def test_scores_by_hand():
    h = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    c = torch.tensor([[0.0, 0.0], [NAN, NAN], [3.0, 0.0]])
    scores = prototype_scores(h, c)
    assert scores.tolist() == [[0.0, -math.inf, -3.0], [-5.0, -math.inf, -4.0]]
    p = math.exp(0) / (math.exp(0) + math.exp(-3))
    h_0 = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert entropy(scores)[0].item() == pytest.approx(h_0, rel=1e-5)
    (torch.nn.functional.cross_entropy(scores, torch.tensor([0, 2])) + entropy(scores).sum()).backward()
    assert h.grad.isfinite().all()  # also of a feature that is its class's prototype
    assert entropy(torch.zeros(1, 4)).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("first", "second", "slow"),
    [
        (0.6, 0.4, (1, 0.5)),
        (0.4, 0.6, (0, 0.5)),
        (0.9, 0.1, (1, 1.0)),
        (0.1, 0.9, (0, 1.0)),
        (0.5, 0.5, (1, 0.0)),
    ],
)
def test_who_is_slow_and_by_how_much(first, second, slow):
    found = slow_kind(torch.full((3,), first), torch.full((3,), second))
    assert found[0] == slow[0]
    assert found[1] == pytest.approx(slow[1], abs=1e-6)


# ------------------------------------------------------------------------------------------------- clients


def ready_to_balance(**settings):
    """A client whose features are so small that neither kind is far ahead, samples of both kinds, their labels."""
    half = alone(PMR, {"alpha": 1.5, "mu_e": 0.3, **settings}, blanks=2)
    with torch.no_grad():
        for tower in half.context.model.streams.values():
            tower.norm.weight.mul_(0.3)
    half._renew()
    index = torch.nonzero(half.context.private["present"].all(1))[:8, 0]
    h = half.context.model.features(**half.context.ready({k: v[index] for k, v in half.context.private.items()}))
    return half, h, half.context.private_labels[index]


def test_the_terms_by_plain_loops():
    half, h, y = ready_to_balance()
    p = {}
    for kind, rows in h.items():
        away = [[math.dist(row, c) for c in half.prototypes[kind].tolist()] for row in rows.tolist()]
        p[kind] = [[math.exp(-d) / sum(math.exp(-e) for e in line) for d in line] for line in away]
    right = {kind: [line[c] for line, c in zip(table, y.tolist())] for kind, table in p.items()}
    rho = sum(right["audio"]) / sum(right["image"])
    slow, fast = ("image", "audio") if rho >= 1 else ("audio", "image")
    w = min(max(rho, 1 / rho) - 1, 1)
    pce = -np.mean([math.log(q) for q in right[slow]])
    chaos = np.mean([-sum(q * math.log(q) for q in line) for line in p[fast]])
    assert 0 < w < 1
    found = half._balance(h, y, 0.3).item()
    assert found == pytest.approx(w * (1.5 * pce - 0.3 * chaos), rel=1e-4)


@pytest.mark.parametrize(("alpha", "weight"), [(1.0, 0.0), (0.0, 1.0)])
def test_whom_each_term_teaches(alpha, weight):
    """The slow kind's stream by its prototypes, the fast one's by the entropy; nobody else."""
    half, h, y = ready_to_balance(alpha=alpha)
    scores = [prototype_scores(h[k].detach(), half.prototypes[k]).softmax(1)[range(len(y)), y] for k in h]
    slow, _ = slow_kind(*scores)
    taught = list(h)[slow if alpha else 1 - slow]
    half.context.model.zero_grad()
    half._balance(h, y, weight).backward()
    gradients = {n: p.grad for n, p in half.context.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert gradients
    assert {group_of(n) for n in gradients} == {taught}


def test_prototypes_are_means_with_a_memory():
    half = client("a", method=PMR, settings={"epsilon": 0.3}, blanks=2, classes=2)
    before = half.parameters()
    half.fit(Empty(), round=1)
    old = {k: v.clone() for k, v in half.prototypes.items()}
    half.take(before)
    h, present = half.context.stream_features(half.context.private), half.context.private["present"]
    for i, kind in enumerate(("audio", "image")):
        assert old[kind][2].isnan().all()
        for c in (0, 1):
            rows = h[kind][present[:, i] & (half.context.private_labels == c)]
            assert torch.allclose(old[kind][c], rows.mean(0), atol=1e-6)
    moved = {k: v + 1 for k, v in before.items()}
    half.take(moved)
    fresh = half.context.stream_features(half.context.private)
    half.fit(FedAvgAverage(moved), round=2)
    for i, kind in enumerate(("audio", "image")):
        new = fresh[kind][present[:, i] & (half.context.private_labels == 1)].mean(0)
        assert torch.allclose(half.prototypes[kind][1], 0.3 * old[kind][1] + 0.7 * new, atol=1e-5)


def test_without_weights_it_is_fedavg():
    plain, ours, late = Joint(FEDAVG), Joint(PMR, alpha=0, mu_e=0), Joint(PMR, alpha=0, entropy_rounds=0)
    for x in (plain, ours, late):
        x.run(2)
    assert same(plain.server.state()[0], ours.server.state()[0])
    assert same(plain.server.state()[0], late.server.state()[0])
    assert all(same(plain.clients()[k], ours.clients()[k]) for k in CLIENTS)


def test_either_term_makes_a_difference():
    states = [learned(alone(PMR, s)) for s in ({"mu_e": 0.0}, {"alpha": 0.0, "mu_e": 1.0}, {"alpha": 0.0, "mu_e": 0.0})]
    assert not same(states[0], states[2])
    assert not same(states[1], states[2])


def test_the_entropy_is_for_early_rounds():
    def after(rounds: int, mu_e: float):
        half = client("a", method=PMR, settings={"entropy_rounds": rounds, "mu_e": mu_e})
        half.fit(Empty(), round=2)
        return learned(half)

    assert same(after(1, 0.5), after(1, 0.0))
    assert not same(after(2, 0.5), after(2, 0.0))


@pytest.mark.parametrize("owned", [SOUND, SIGHT], ids=" ".join)
def test_a_client_of_one_kind_trains_as_in_fedavg(owned):
    half = alone(PMR, owned=owned)
    assert same(learned(half), learned(alone(FEDAVG, owned=owned)))
    assert half.prototypes == {}


def test_prototypes_never_leave():
    settings = PMRSettings()
    assert METHOD.verbs(settings) == fedavg.METHOD.verbs(settings)
    toy, plain = Joint(PMR), Joint(FEDAVG)
    toy.run(2)
    plain.run(2)
    assert toy.ledger.totals() == plain.ledger.totals()
    assert toy.half("a").prototypes.keys() == {"audio", "image"}
    assert METHOD.tasks == {"joint"}


def test_same_bits_in_any_order_and_after_a_stop():
    resumes(PMR)
