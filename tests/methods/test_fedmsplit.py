"""FedMSplit: who is like whom, by blocks; what each client gets back; and the mean that is scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from joint import BOTH, CLIENTS, FEDAVG, SIGHT, SOUND, Joint, learned, learner, resumes, same

from fedloom.federation.messages import Empty
from fedloom.methods import fedavg
from fedloom.methods.fedmsplit import METHOD, FedMSplitSettings, similarities
from fedloom.methods.robust import mean_parameters
from fedloom.models.clients.multimodal import group_of

SPLIT = "fedloom.methods.fedmsplit:METHOD"


def updates_of(toy, round=1):
    return {k: toy.traffic[round, k][1] for k in toy.federation.clients}


def near(one, two, atol=1e-5) -> bool:
    return one.keys() == two.keys() and all(np.allclose(one[k], two[k], atol=atol) for k in one)


def test_similarities_by_hand():
    a = similarities([np.array(v, float) for v in ([1, 0], [5, 0], [0, 2], [-1, 0], [0, 0])], 0.5)
    assert np.allclose(np.diag(a), 1)
    assert np.allclose(a, a.T)
    assert a[0, 1:].tolist() == pytest.approx([1, math.exp(-2), math.exp(-4), math.exp(-2)])
    assert np.allclose(similarities([np.array([1.0, 0]), np.array([0, 1.0])], 1e9), 1)


def test_a_uniform_graph_is_fedavg():
    more = {"a": {"n": 30, "blanks": 3}}
    plain, ours = Joint(FEDAVG, CLIENTS, more), Joint(SPLIT, CLIENTS, more, temperature=1e9)
    plain.run(3)
    ours.run(3)
    assert near(plain.server.groups["joint"], ours.server.groups["joint"])
    for name in CLIENTS:
        assert near(learned(plain.half(name)), learned(ours.half(name)))
        given = {k: plain.server.groups["joint"][k] for k in ours.server.personal[name]}
        assert near(ours.server.personal[name], given)


def test_where_nobody_is_alike_each_is_alone():
    toy = Joint(SPLIT, temperature=1e-3)
    (info,) = toy.run(1)
    for name, update in updates_of(toy).items():
        assert near(toy.server.personal[name], dict(update.parameters))
    assert info.facts["own_share"] == pytest.approx(1)


def test_the_mixture_by_plain_loops():
    toy = Joint(SPLIT, CLIENTS, {"b": {"n": 30}}, temperature=0.7)
    toy.run(1)
    start = {n: p.detach().numpy() for n, p in learner().named_parameters()}
    said, n = updates_of(toy), {k: u.samples for k, u in updates_of(toy).items()}

    def block(k, b):
        return np.concatenate([(said[k].parameters[x] - start[x]).ravel() for x in start if group_of(x) == b])

    def alike(k, other, b):
        one, two = block(k, b), block(other, b)
        cosine = 1 if k == other else one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        return math.exp((cosine - 1) / 0.7)

    blocks = {k: [*owned, None] for k, owned in CLIENTS.items()}
    for k in CLIENTS:
        for name, found in toy.server.personal[k].items():
            b = group_of(name)
            total = weights = 0.0
            for other in CLIENTS:
                if b in blocks[other]:
                    common = [x for x in blocks[k] if x in blocks[other]]
                    w = n[other] * alike(k, other, b) * np.mean([alike(k, other, x) for x in common])
                    total, weights = total + w * said[other].parameters[name].astype(float), weights + w
            assert np.allclose(found, total / weights, atol=1e-5)


def test_those_who_learn_alike_share_more():
    """Two clients of the first class against one of the others."""
    toy = Joint(SPLIT, {"a": BOTH, "b": BOTH, "c": BOTH}, {"a": {"classes": 1}, "b": {"classes": 1}})
    toy.run(1)
    said = updates_of(toy)
    shares = toy.server._shares([said[k] for k in "abc"])
    for w in shares.values():
        assert np.allclose(w.sum(1), 1)
        assert w[0, 1] > w[0, 2]
        assert w[1, 0] > w[1, 2]


def test_clients_without_a_kind_change_nothing_of_it():
    toy = Joint(SPLIT)
    toy.run(1)
    assert not any(group_of(n) == "image" for n in toy.server.personal["c"])
    said = updates_of(toy)
    shares = toy.server._shares([said[k] for k in CLIENTS])
    for column, owned in enumerate(CLIENTS.values()):
        for kind in ("audio", "image"):
            assert (shares[kind][:, column] > 0).any() == (kind in owned)
            assert (shares[kind][column] > 0).any() == (kind in owned)
    assert (shares[None] > 0).all()  # clients of sounds and of frames are joined by the fusion head
    without = Joint(SPLIT, {k: v for k, v in CLIENTS.items() if v != SIGHT})
    without.run(1)
    for name in "abc":
        one, two = toy.server.personal[name], without.server.personal[name]
        assert same(*({k: v for k, v in x.items() if group_of(k) == "audio"} for x in (one, two)))


def test_each_is_sent_its_own_blocks():
    toy = Joint(SPLIT, {"a": BOTH, "b": BOTH, "c": SOUND})
    toy.run(1)
    personal = {k: dict(v) for k, v in toy.server.personal.items()}
    toy.run(1)
    for name in "abc":
        assert isinstance(toy.traffic[1, name][0], Empty)
        assert same(dict(toy.traffic[2, name][0].parameters), personal[name])
    assert not near(personal["a"], personal["b"])


def test_one_that_is_away_finds_its_blocks_and_a_new_one_the_mean():
    toy = Joint(SPLIT, {"a": BOTH, "b": BOTH, "c": SOUND}, {"b": {"fault": "fit"}})
    toy.run(1)
    assert same(dict(toy.server.message("b", "joint").parameters), toy.server.groups["joint"])
    whole = Joint(SPLIT, {"a": BOTH, "b": BOTH})
    whole.run(1)
    before = dict(whole.server.personal["b"])
    whole.half("b").fit = whole.half("a").parameters  # takes no such arguments: it fails
    whole.run(1)
    assert [m.client for m in whole.federation.missing] == ["b"]
    assert same(dict(whole.server.message("b", "joint").parameters), before)


def test_what_is_scored_is_the_plain_mean():
    toy = Joint(SPLIT)
    toy.run(2)
    mean = mean_parameters(updates_of(toy, 2))
    model = toy.server.shared_model().model.state_dict()
    assert all(np.array_equal(model[k].numpy(), v) for k, v in mean.items())


def test_the_messages_are_fedavgs():
    settings = FedMSplitSettings()
    assert METHOD.verbs(settings) == fedavg.METHOD.verbs(settings)
    toy, plain = Joint(SPLIT), Joint(FEDAVG)
    toy.run(2)
    plain.run(2)
    assert toy.ledger.totals() == plain.ledger.totals()
    assert METHOD.tasks == {"joint"}


def test_same_bits_in_any_order_and_after_a_stop():
    resumes(SPLIT)
