"""FedAvg and FedProx: whose parameters are averaged, how, and what stays at home."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import CLIENTS, Toy, client, same

from fedloom.federation.messages import Empty
from fedloom.methods.fedavg import FedAvgAverage, FedAvgUpdate, known_by
from fedloom.methods.robust import mean_parameters

METHODS = ("fedavg", "fedprox")


def learner(state: dict) -> dict:
    return {k.removeprefix("context/model/"): v for k, v in state.items() if k.startswith("context/model/")}


def test_the_mean_by_hand():
    one = FedAvgUpdate({"w": np.array([1.0, 2.0], np.float32)}, 30, 0.0)
    two = FedAvgUpdate({"w": np.array([5.0, -2.0], np.float32)}, 10, 0.0)
    assert mean_parameters({"a": one, "b": two})["w"].tolist() == [2.0, 1.0]
    assert mean_parameters({"b": one})["w"].dtype == np.float32
    with pytest.raises(ValueError, match="no samples"):
        mean_parameters({"a": FedAvgUpdate({}, 0, 0.0)})


def test_the_mean_of_a_number_without_an_axis_stays_an_array():
    one, two = (FedAvgUpdate({"scale": np.array(v, np.float32)}, n, 0.0) for v, n in ((1.0, 3), (5.0, 1)))
    for updates, mean in (({"a": one, "b": two}, 2.0), ({"a": one}, 1.0)):
        found = mean_parameters(updates)["scale"]
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype, float(found)) == ((), np.float32, mean)


@pytest.mark.parametrize("method", METHODS)
def test_clients_of_pairs_are_averaged_with_their_matching(method):
    """Whose scale and shift are such numbers; two rounds, and as many samples each."""
    toy = Toy(None, method, clients={"pair-0": "pair", "pair-1": "pair", "image-0": "image"})
    toy.run(2)
    assert toy.federation.missing == []
    assert len(toy.server.groups) == 2
    average = toy.server.groups[toy.server.members["pair-0"]]
    assert toy.server.members["pair-1"] == toy.server.members["pair-0"]
    states = [learner(toy.clients()[k]) for k in ("pair-0", "pair-1")]
    assert average["matching.scale"].shape == ()
    assert average.keys() == states[0].keys()
    for name, value in average.items():
        mean = (states[0][name].astype(np.float64) + states[1][name]) / 2
        assert np.allclose(value, mean, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_clients_of_one_architecture_begin_each_round_from_their_mean(method, tiny_generator):
    toy = Toy(tiny_generator, method)
    toy.run(1)
    after = {k: learner(v) for k, v in toy.clients().items()}
    sent = {}
    ask = toy.federation.ask
    toy.federation.ask = lambda verb, said, **how: ask(verb, sent.setdefault(verb, said), **how)
    toy.run(1)
    for group in (("image-0", "image-1"), ("text-0", "text-1")):
        for k in group:
            for name, value in sent["fit"][k].parameters.items():
                mean = (after[group[0]][name].astype(np.float64) + after[group[1]][name]) / 2  # as many samples each
                assert np.allclose(value, mean, atol=1e-6)
    assert known_by(sent["fit"]["image-0"].parameters) != known_by(sent["fit"]["text-0"].parameters)


@pytest.mark.parametrize("method", [*METHODS, "lora-fl", "bias-fl", "feddat"])
def test_same_bits_in_any_order_and_after_a_stop(method, tiny_generator):
    whole, backwards = (
        Toy(tiny_generator, method),
        Toy(tiny_generator, method, clients=dict(reversed(CLIENTS.items()))),
    )
    whole.run(3)
    backwards.run(3)
    assert same(whole.server.state()[0], backwards.server.state()[0])
    broken, resumed = (Toy(tiny_generator, method) for _ in range(2))
    broken.run(2)
    resumed.server.load_state(*broken.server.state())
    for name in CLIENTS:
        resumed.half(name).load_state(*broken.half(name).state())
    resumed.federation.round = 2
    resumed.run(1)
    assert same(whole.server.state()[0], resumed.server.state()[0])
    assert all(same(whole.clients()[k], resumed.clients()[k]) for k in CLIENTS)


def test_one_that_fails_has_no_part_in_the_mean(tiny_generator):
    toy = Toy(tiny_generator, "fedavg", broken={"image-1": {"fault": "raise fit"}})
    info = toy.run(1)[0]
    assert {m.client for m in toy.federation.missing} == {"image-1"}
    assert info.losses["clients"] > 0
    alone = toy.server.groups[toy.server.members["image-0"]]
    assert same(alone, {k: v for k, v in learner(toy.clients()["image-0"]).items() if k in alone})
    assert "image-1" not in toy.server.members


def test_a_large_mu_holds_clients_near_the_average():
    def moved(mu: float) -> float:
        half = client("image-0", "image", "fedprox", {"private_steps": 10, "extra_steps": 0, "mu": mu})
        before = half.fit(Empty(), round=1).parameters
        after = half.fit(FedAvgAverage(before), round=2).parameters
        return sum(float(np.square(after[k] - before[k]).sum()) for k in before)

    assert moved(100.0) < 0.5 * moved(1e-6)


def test_fedprox_without_weight_is_fedavg():
    settings = {"private_steps": 4, "extra_steps": 0}
    plain = client("text-0", "text", "fedavg", settings).fit(Empty(), round=1)
    near = client("text-0", "text", "fedprox", {**settings, "mu": 0.0}).fit(Empty(), round=1)
    assert same(dict(plain.parameters), dict(near.parameters))


def test_parameters_of_another_architecture_are_refused():
    half = client("image-0", "image", "fedavg", {})
    with pytest.raises(ValueError, match="image-0 was sent the parameters of another architecture"):
        half.fit(FedAvgAverage({"body.weight": torch.zeros(2, 2).numpy()}), round=1)
