"""Robust averages of models' parameters, and how far each client is from the others."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.methods import fedavg, fedproto, scaffold
from fedloom.methods.fedavg import FedAvgUpdate
from fedloom.methods.robust import (
    bounded,
    combined_parameters,
    distances,
    mean_parameters,
    start_of,
    step_agreement,
)


def arrays(**values):
    return {k: np.array(v, np.float32) for k, v in values.items()}


def server(module, **settings):
    """A server half without the rest."""
    kind = next(v for k, v in vars(module).items() if k.endswith("Server") and v.__module__ == module.__name__)
    made = object.__new__(kind)
    made.settings = module.METHOD.settings(**settings)
    made.groups, made.members, made.owned = {}, {}, {}
    return made


def test_by_component_over_those_who_have_it():
    sent = [arrays(a=[[0, 1]], b=2), arrays(a=[[1, 1]], b=4), arrays(a=[[50, -50]])]
    found = combined_parameters(sent, "median", 0.25)
    assert found["a"].tolist() == [[1.0, 1.0]]
    assert found["b"].tolist() == 3.0
    assert list(found) == ["a", "b"]
    assert found["a"].dtype == np.float32


def test_by_distance_all_that_the_same_clients_have_is_one_point():
    """The liar hides its b among the others; its a gives it away, and both go."""
    sent = [arrays(a=[0.0], b=[0.0]), arrays(a=[0.2], b=[2.0]), arrays(a=[0.1], b=[1.0]), arrays(a=[1e6], b=[1.0])]
    found = combined_parameters(sent, "multi_krum", 0.25)
    assert found["a"].tolist() == pytest.approx([0.1])
    assert found["b"].tolist() == pytest.approx([1.0])
    one = combined_parameters(sent, "geometric_median", 0.25)
    assert abs(one["a"][0]) < 0.3


@pytest.mark.parametrize("rule", ["median", "trimmed", "geometric_median", "multi_krum"])
def test_clients_that_are_alike(rule):
    sent = [arrays(a=[1, 2], b=[[3]])] * 5
    found = combined_parameters(sent, rule, 0.25)
    assert {k: v.tolist() for k, v in found.items()} == {"a": [1, 2], "b": [[3]]}


def test_steps_are_bounded_by_the_round():
    """Steps of 1, 2 and 300 (root mean square): none above twice the median."""
    start = arrays(a=[1, 1])
    sent = [arrays(a=[2, 2]), arrays(a=[3, 3]), arrays(a=[301, 301])]
    assert distances(sent, start) == [1.0, 2.0, 300.0]
    assert [p["a"].tolist() for p in bounded(sent, start, 2.0)] == [[2, 2], [3, 3], [5, 5]]
    assert all(np.array_equal(a["a"], b["a"]) for a, b in zip(bounded(sent, start, 1000.0), sent))
    assert distances([{}, *sent], start)[0] is None


def test_where_nobody_knows_the_start_it_is_the_median():
    sent = [arrays(a=[1.0], b=[0.0]), arrays(a=[2.0]), arrays(a=[9.0])]
    assert {k: v.tolist() for k, v in start_of(sent, arrays(b=[7])).items()} == {"b": [7], "a": [2.0]}


def test_agreement_of_steps():
    start = arrays(a=[0, 0], b=[0])
    sent = [arrays(a=[1, 0], b=[0]), arrays(a=[5, 0], b=[0]), arrays(a=[-1, 0], b=[0]), arrays(a=[0, 0], b=[0])]
    agreed = step_agreement(sent, start)
    assert agreed[3] is None
    assert agreed[0] == agreed[1] is None  # the other two cancel
    assert agreed[2] == pytest.approx(-1)
    assert step_agreement([arrays(a=[3, 4], b=[0]), arrays(a=[6, 8], b=[0])], start) == [pytest.approx(1)] * 2


def updates(*rows, samples=(10, 10, 10, 10)):
    return {f"c{k}": FedAvgUpdate(arrays(w=row), n, 0.5) for k, (row, n) in enumerate(zip(rows, samples))}


def test_fedavg_without_a_rule_is_the_mean_by_samples():
    sent = updates([0, 0], [3, 3], samples=(10, 20))
    assert server(fedavg).aggregate("x", sent)["w"].tolist() == [2, 2]
    assert np.array_equal(server(fedavg).average(sent)["w"], mean_parameters(sent)["w"])


def test_a_client_that_claims_a_million_samples():
    sent = updates([0, 1], [1, 2], [2, 3], [1e6, -1e6], samples=(10, 10, 10, 10**6))
    assert np.abs(server(fedavg).aggregate("x", sent)["w"]).min() > 9e5
    for rule in ("median", "trimmed", "geometric_median", "multi_krum"):
        found = server(fedavg, aggregate=rule).aggregate("x", sent)["w"]
        assert ((found >= [0, 1]) & (found <= [2, 3])).all(), rule


def test_a_norm_bound_alone():
    before = arrays(w=[0, 0])
    sent = updates([1, 1], [1, 1], [1, 1], [1e6, 1e6])
    short = server(fedavg, norm_bound=2.0).shortened(sent, before)
    assert short["c3"].parameters["w"].tolist() == [2, 2]
    assert server(fedavg).shortened(sent, before) is sent


def test_scaffold_takes_control_variates_by_the_same_rule():
    liar = scaffold.ScaffoldUpdate(arrays(w=[1e6]), arrays(w=[-1e6]), 10, 0.0)
    honest = [scaffold.ScaffoldUpdate(arrays(w=[v]), arrays(w=[v / 10]), 10, 0.0) for v in (1, 2, 3)]
    sent = dict(zip("abcd", [*honest, liar]))
    made = server(scaffold, aggregate="median")
    made.controls, made.heard, made.members = {}, {}, dict.fromkeys("abcd", "x")
    assert made.aggregate("x", sent)["w"].tolist() == [2.5]
    assert made.controls["x"]["w"].tolist() == pytest.approx([0.15])


def test_scaffolds_control_variates_are_bounded_too():
    sent = {k: scaffold.ScaffoldUpdate(arrays(w=[v]), arrays(w=[v]), 10, 0.0) for k, v in zip("abc", (1, 1, 1e6))}
    short = server(scaffold, norm_bound=2.0).shortened(sent, arrays(w=[0]))
    assert [(u.parameters["w"].tolist(), u.control["w"].tolist()) for u in short.values()] == [
        ([v], [v]) for v in (1, 1, 2)
    ]


def test_prototypes_by_the_same_rule():
    def sent(value):
        one, n = {"image": np.array([[value, value]], np.float32)}, {"image": np.array([3], np.int32)}
        return fedproto.FedProtoUpdate(one, {"image": np.array([1], np.int32)}, n, {}, 3, 0.0)

    made = server(fedproto, aggregate="median")
    made.prototypes, made.kinds = {}, {}
    made.observe({"a": sent(1), "b": sent(2), "c": sent(1e6)})
    assert made.prototypes["image"][1].tolist() == [2, 2]
    made.settings = fedproto.METHOD.settings(norm_bound=2.0)
    made.observe({"a": sent(1), "b": sent(1), "c": sent(1e6)})
    assert made.prototypes["image"][1] == pytest.approx([4 / 3, 4 / 3])
    assert {k: v.tolist() for k, v in made.compared(sent(7)).items()} == {"image/1": [7, 7]}
