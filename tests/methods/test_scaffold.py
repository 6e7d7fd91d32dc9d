"""SCAFFOLD: corrected steps, the control variates' identity, and whose mean c is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint import BOTH, CLIENTS, FEDAVG, SIGHT, Joint, client, learned, resumes, same

from fedloom.federation.messages import Empty
from fedloom.methods.scaffold import METHOD, ScaffoldSettings, ScaffoldTargets, ScaffoldUpdate
from fedloom.models.clients.multimodal import group_of

SCAFFOLD = "fedloom.methods.scaffold:METHOD"


def first(**how):
    """A client after its first round, what it began with, and what it sent."""
    half = client("a", method=SCAFFOLD, **how)
    x = {n: v.copy() for n, v in half.parameters().items()}
    return half, x, half.fit(Empty(), round=1)


def trained(half) -> set[str]:
    return {n for n, _ in half.context.model.named_parameters()}


# ------------------------------------------------------------------------------------------------- clients


def test_without_control_variates_a_round_is_fedavg():
    plain, ours = Joint(FEDAVG), Joint(SCAFFOLD)
    plain.run(1)
    ours.run(1)
    assert same(plain.server.groups["joint"], ours.server.groups["joint"])
    for name in CLIENTS:
        assert same(learned(plain.half(name)), learned(ours.half(name)))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_identity_of_control_variates(momentum):
    """c_i+ - c_i = (x - y) (1 - m) / (K eta) - c, of what is trained and of nothing else."""
    half, x, one = first(momentum=momentum)
    assert one.control.keys() == trained(half)
    far = 3 * 0.05 / (1 - momentum)
    for n, change in one.control.items():
        assert np.allclose(change, (x[n] - one.parameters[n]) / far, atol=1e-5)
    c = {n: np.full_like(v, 0.02) for n, v in one.control.items()}
    own = {n: v.numpy().copy() for n, v in half.control.items()}
    two = half.fit(ScaffoldTargets(one.parameters, c), round=2)
    for n, change in two.control.items():
        assert np.allclose(change, (one.parameters[n] - two.parameters[n]) / far - c[n], atol=1e-5)
        assert np.allclose(half.control[n].numpy(), own[n] + change, atol=1e-6)


def test_one_step_adds_c_and_takes_away_its_own():
    settings, rate = {"private_steps": 1, "extra_steps": 0}, 0.1
    how = {"momentum": 0.0, "rate": rate, "settings": settings}
    plain, half = client("a", **how), client("a", method=SCAFFOLD, **how)
    with torch.no_grad():  # small features, so that no gradient is clipped
        for x in (plain, half):
            for tower in x.context.model.streams.values():
                tower.norm.weight.mul_(0.2)
    before = half.parameters()
    c = {n: np.full_like(before[n], 0.001) for n in trained(half)}
    half.control = {n: torch.full(before[n].shape, 0.003) for n in trained(half)}
    y = half.fit(ScaffoldTargets(before, c), round=1).parameters
    without = plain.fit(Empty(), round=1).parameters
    for n in c:
        assert np.allclose(y[n] - without[n], -rate * (0.001 - 0.003), atol=1e-6)


def test_steady_steps_with_momentum_give_the_gradient_itself():
    """Along a slope of 1e-3 that all have, c_i is 1e-3 once the velocity is steady."""
    half = client("a", method=SCAFFOLD, momentum=0.8, settings={"private_steps": 40, "extra_steps": 0})
    parts = list(half.context.model.parameters())
    half.objective = lambda: lambda inputs, i: 1e-3 * torch.stack([p.sum() for p in parts]).sum()
    c = {n: np.full(p.shape, 1e-3, np.float32) for n, p in half.context.model.named_parameters()}
    for t in range(1, 9):
        half.fit(ScaffoldTargets(half.parameters(), c), round=t)
    for v in half.control.values():
        assert torch.allclose(v, torch.full_like(v, 1e-3), atol=1e-5)


def test_a_stream_without_samples_in_a_batch_makes_no_step():
    half = client("a", method=SCAFFOLD, momentum=0.0)
    half.context.private["present"][:, 0] = False
    c = {n: np.full(p.shape, 0.1, np.float32) for n, p in half.context.model.named_parameters()}
    x = half.parameters()
    y = half.fit(ScaffoldTargets(x, c), round=1).parameters
    streams = [n for n in x if group_of(n) == "audio"]
    assert streams
    assert all(np.array_equal(x[n], y[n]) for n in streams)


def test_no_steps_change_no_control_variate():
    half = client("a", method=SCAFFOLD, settings={"private_steps": 0})
    x = half.parameters()
    said = half.fit(ScaffoldTargets(x, {n: np.ones_like(x[n]) for n in trained(half)}), round=1)
    assert not any(v.any() for v in said.control.values())


def test_many_local_steps_do_not_move_the_optimum():
    """Two parabolas of unlike width: their sum is least at 0.09; FedAvg settles elsewhere."""

    def settled(method: str) -> float:
        toy = Joint(method, {"a": BOTH, "b": BOTH}, {k: {"momentum": 0.0} for k in "ab"}, private_steps=10)
        for name, a, b in (("a", 1.0, 0.0), ("b", 9.0, 0.1)):
            half = toy.half(name)
            bias = half.context.model.fusion.out.bias
            half.objective = lambda a=a, b=b, w=bias: lambda inputs, i: a / 2 * (w - b).square().sum()
        toy.run(40)
        return float(toy.server.groups["joint"]["fusion.out.bias"].mean())

    assert settled(SCAFFOLD) == pytest.approx(0.09, abs=1e-3)
    assert abs(settled(FEDAVG) - 0.09) > 0.01


# ------------------------------------------------------------------------------------------------- server


def server_of(**settings):
    return Joint(SCAFFOLD, **settings).server


def update(w: float, change: float, samples: int, name: str = "fusion.out.bias") -> ScaffoldUpdate:
    one = {name: np.array([w], np.float32)}
    return ScaffoldUpdate(one, {name: np.array([change], np.float32)}, samples, 0.0)


def test_c_moves_by_the_share_of_those_who_take_part():
    """Four clients of as many samples; then two of them: c + 2/4 of their mean change."""
    server = server_of()
    everybody = {k: update(0.0, v, 10) for k, v in zip("abcd", (1.0, 2.0, 3.0, 6.0))}
    server.members = dict.fromkeys("abcd", "joint")
    server.aggregate("joint", everybody)
    assert server.controls["joint"]["fusion.out.bias"].tolist() == [3.0]
    server.aggregate("joint", {"a": update(0.0, 1.0, 10), "d": update(0.0, -5.0, 10)})
    assert server.controls["joint"]["fusion.out.bias"].tolist() == [3.0 + 2 / 4 * -2.0]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_c_is_the_mean_of_all_who_were_heard_and_own_it(share):
    """By number of samples, of unequal clients, of which not all take part in a round."""
    more = {"a": {"n": 30, "blanks": 3}, "b": {"n": 12}}
    toy = Joint(SCAFFOLD, CLIENTS, more, share=share)
    toy.run(4)
    heard = {k for _, k in toy.traffic}
    control = toy.server.controls["joint"]
    assert set(control) == trained(toy.half("a"))
    for name, c in control.items():
        own = [toy.half(k) for k in sorted(heard) if name in toy.half(k).control]
        n = [len(h.context.private_labels) for h in own]
        mean = np.average([h.control[name].numpy() for h in own], axis=0, weights=n)
        assert np.allclose(c, mean, atol=1e-5)


def test_the_servers_step():
    server = server_of(global_rate=0.5)
    server.members = {"a": "joint"}
    name = "streams.audio.norm.running_mean"
    both = {"fusion.out.bias": np.array([1.0], np.float32), name: np.array([4.0], np.float32)}
    change = {"fusion.out.bias": np.zeros(1, np.float32)}
    server.groups["joint"] = server.aggregate("joint", {"a": ScaffoldUpdate(both, change, 5, 0.0)})
    assert same(server.groups["joint"], both)  # before that there is nothing to step from
    further = {k: v + 2 for k, v in both.items()}
    found = server.aggregate("joint", {"a": ScaffoldUpdate(further, change, 5, 0.0)})
    assert found["fusion.out.bias"].tolist() == [2.0]
    assert found[name].tolist() == [6.0]


def test_clients_without_a_kind_change_nothing_of_it():
    whole, without = Joint(SCAFFOLD), Joint(SCAFFOLD, {k: v for k, v in CLIENTS.items() if v != SIGHT})
    whole.run(1)
    without.run(1)
    for of in (lambda s: s.groups["joint"], lambda s: s.controls["joint"]):
        one, two = of(whole.server), of(without.server)
        assert same(*({k: v for k, v in x.items() if group_of(k) == "audio"} for x in (one, two)))
        assert any(not np.array_equal(one[k], two[k]) for k in one if group_of(k) == "image")


def test_what_crosses():
    """Parameters and control variates of what a client has, both ways; nothing down at first."""
    toy = Joint(SCAFFOLD)
    toy.run(2)
    shapes = {n: v.size for n, v in toy.half("a").parameters().items()}
    both = trained(toy.half("a"))
    bytes_ = 0
    for name, owned in CLIENTS.items():
        held = {n for n in shapes if group_of(n) is None or group_of(n) in owned}
        assert isinstance(toy.traffic[1, name][0], Empty)
        down, up = toy.traffic[2, name]
        assert set(down.parameters) == set(up.parameters) == held
        assert set(down.control) == set(up.control) == held & both
        bytes_ += 4 * (sum(shapes[n] for n in held) + sum(shapes[n] for n in held & both))
    assert toy.ledger.totals(1) == (bytes_ + 4 * 16, 0)
    assert toy.ledger.totals(2) == (bytes_ + 4 * 16, bytes_)


def test_one_that_comes_late_gets_all_and_begins_with_no_control_variate():
    toy = Joint(SCAFFOLD, CLIENTS, {"b": {"fault": "fit"}})
    toy.run(1)
    assert {m.client for m in toy.federation.missing} == {"b"}
    assert "b" not in toy.server.heard
    assert set(toy.server.message("b", "joint").control) == trained(toy.half("a"))
    assert toy.half("b").control == {}


def test_clients_of_one_modality_take_part():
    toy = Joint(SCAFFOLD, {"image-0": "image", "image-1": "image", "text-0": "text"})
    infos = toy.run(2)
    assert toy.federation.missing == []
    assert len(toy.server.controls) == 2
    assert infos[-1].facts["control"] > 0
    assert "body.weight" in toy.traffic[2, "image-0"][0].control


def test_same_bits_in_any_order_and_after_a_stop():
    resumes(SCAFFOLD)
    resumes(SCAFFOLD, {"image-0": "image", "image-1": "image", "text-0": "text"}, global_rate=0.7)


def test_only_sgd_has_steps_of_one_length():
    assert METHOD.optimizers == ("sgd",)
    assert METHOD.tasks == {"image", "text", "joint"}
    assert ScaffoldSettings().global_rate == 1.0


def test_the_fact_does_not_depend_on_the_order_of_parameters():
    """A checkpoint may have them in another one than the run that wrote it."""
    server, values = server_of(), np.random.default_rng(0).lognormal(0, 6, 40).astype(np.float32)
    found = set()
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(40)
        server.controls = {
            "a": {str(i): values[[i]] for i in order[:20]},
            "b": {str(i): values[[i]] for i in order[20:]},
        }
        found.add(server.observe({})["control"])
    assert len(found) == 1
