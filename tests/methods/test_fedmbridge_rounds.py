"""FedMBridge's rounds: what crosses the wire, what is trained, and what goes wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fedmbridge_toys import NUMBERS, SIZES, toy_of
from test_disentafl import sent_in, sites_of
from toy_sites import CLIENTS, WIDTH, client, same

from fedloom.methods.fedmbridge import FedMBridgeAdapters, FedMBridgeServer

# --------------------------------------------------------------------------------------------------------- rounds


def test_what_is_sent_is_what_the_hypernetwork_makes(tiny_generator):
    toy = toy_of(tiny_generator)
    theta = {}
    first = sent_in(toy)
    for k, (down, up) in first.items():
        assert not np.array_equal(down.values, up.values)
        half = sites_of(toy)[k].context.model.adapters
        assert np.array_equal(torch.nn.utils.parameters_to_vector(half.parameters()).detach().numpy(), up.values)
        theta[k] = toy.server.adapters(k).numpy()
        assert not np.array_equal(theta[k], down.values)
    for k, (down, _) in sent_in(toy).items():
        assert np.array_equal(down.values, theta[k])


def test_the_rounds_go_where_training_went(tiny_generator):
    toy = toy_of(tiny_generator, eta=0.01, eta_code=0.01)
    for k, (down, up) in sent_in(toy).items():
        apart = np.linalg.norm(up.values - down.values)
        assert np.linalg.norm(up.values - toy.server.adapters(k).numpy()) < apart


def test_everything_is_trained(tiny_generator):
    toy = toy_of(tiny_generator)
    before = toy.clients()
    assert toy.run(2)[1].losses["clients"] > 0
    for name, state in toy.clients().items():
        learner = [k for k in before[name] if k.startswith("context/model/")]
        assert [k for k in learner if np.array_equal(before[name][k], state[k])] == []


def test_bytes_by_hand(tiny_generator):
    toy = toy_of(tiny_generator)
    toy.run(3)
    theta = 4 * NUMBERS
    assert toy.ledger.totals(round=1) == (
        4 * (theta + 8 + 2 * 4 * 3),
        4 * theta,
    )  # 3 nodes: stem, block, output
    assert toy.ledger.totals(round=2) == (4 * (theta + 8), 4 * theta)
    fields = {(r["verb"], f["name"]) for r in toy.ledger.rows() for f in r["fields"]}
    assert fields == {("describe", "kinds"), ("describe", "widths"), ("fit", "values"), ("fit", "loss")}


@pytest.mark.parametrize("clients", [["text-0"], ["image-0", "image-1"]], ids=" ".join)
def test_few_clients(clients, tiny_generator):
    toy = toy_of(tiny_generator, clients={k: CLIENTS[k] for k in clients})
    toy.run(2)
    assert toy.federation.missing == []
    assert sorted(toy.server.codes) == clients


def test_same_bits_in_any_order_and_after_a_stop(tiny_generator):
    whole, backwards = (
        toy_of(tiny_generator),
        toy_of(tiny_generator, clients=dict(reversed(CLIENTS.items()))),
    )
    whole.run(3)
    backwards.run(3)
    assert same(whole.server.state()[0], backwards.server.state()[0])
    broken, resumed = (toy_of(tiny_generator) for _ in range(2))
    broken.run(2)
    resumed.server.load_state(*broken.server.state())
    assert same(resumed.server.state()[0], broken.server.state()[0])
    for name, half in sites_of(resumed).items():
        half.load_state(*broken.half(name).state())
    resumed.federation.round = 2
    resumed.run(1)
    assert {row["verb"] for row in resumed.ledger.rows()} == {"fit"}  # nobody is asked again what it is
    assert same(whole.server.state()[0], resumed.server.state()[0])
    assert all(same(whole.clients()[k], resumed.clients()[k]) for k in CLIENTS)


def test_a_code_depends_on_the_name_alone(tiny_generator):
    all_of_them, one = toy_of(tiny_generator), toy_of(tiny_generator, clients={"text-1": "text"})
    for toy in (all_of_them, one):
        toy.server._meet(toy.federation)
    assert torch.equal(all_of_them.server.codes["text-1"], one.server.codes["text-1"])
    assert not torch.equal(all_of_them.server.codes["text-1"], all_of_them.server.codes["text-0"])


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_one_that_is_away_keeps_its_code(tiny_generator):
    toy = toy_of(tiny_generator, broken={"image-1": {"fault": "raise fit"}})
    toy.server._meet(toy.federation)
    before = {k: v.clone() for k, v in toy.server.codes.items()}
    toy.run(1)
    assert {m.client for m in toy.federation.missing} == {"image-1"}
    unchanged = {k for k, v in toy.server.codes.items() if torch.equal(v, before[k])}
    assert unchanged == {"image-1"}


def test_one_that_joins_late_is_asked_when_it_comes(tiny_generator):
    toy = toy_of(tiny_generator, broken={"text-0": {"fault": "raise describe"}})
    half = sites_of(toy)["text-0"]
    toy.run(1)
    assert "text-0" not in toy.server.codes
    del half.describe  # it is well again
    toy.run(1)
    assert "text-0" in toy.server.codes
    asked = [(r["round"], r["client"]) for r in toy.ledger.rows() if r["verb"] == "describe" and r["direction"] == "up"]
    assert sorted(asked) == [(1, "image-0"), (1, "image-1"), (1, "text-1"), (2, "text-0")]


def test_nobody_says_what_it_is(tiny_generator):
    toy = toy_of(tiny_generator, broken={k: {"fault": "raise describe"} for k in CLIENTS})
    before = toy.server.state()[0]
    assert toy.run(1)[0].losses["clients"] is None
    assert same(toy.server.state()[0], before)


def test_one_too_wide_is_left_out_and_named(tiny_generator, caplog):
    toy = toy_of(tiny_generator, widest=WIDTH - 1)
    toy.run(1)
    assert not toy.server.codes
    assert f"round 1: image-0 is left out: blocks of widths {[WIDTH] * 3}" in caplog.text
    assert f"settings.widest = {WIDTH - 1}" in caplog.text


@pytest.mark.parametrize("change", [lambda v: v[1:], lambda v: v * np.float32("nan")], ids=["short", "not a number"])
def test_a_reply_that_does_not_fit_changes_nothing(change, tiny_generator):
    toy, without = toy_of(tiny_generator), toy_of(tiny_generator, broken={"text-0": {"fault": "raise fit"}})
    half = sites_of(toy)["text-0"]
    fit = half.fit

    def spoilt(message, *, round):
        said = fit(message, round=round)
        return dataclasses.replace(said, values=change(said.values))

    half.fit = spoilt
    toy.run(1)
    without.run(1)
    assert same(toy.server.state()[0], without.server.state()[0])


def test_weights_that_are_not_finite_are_named(tiny_generator):
    toy = toy_of(tiny_generator)
    with torch.no_grad():
        sites_of(toy)["text-1"].context.model.bare.head.bias.fill_(float("nan"))
    toy.run(1)
    (lost,) = toy.federation.missing
    assert (lost.client, lost.round, lost.verb) == ("text-1", 1, "fit")
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values())


def test_adapters_of_another_architecture_are_refused():
    half = client("image-0", "image", "fedmbridge", SIZES)
    with pytest.raises(ValueError, match=f"image-0 was sent 7 numbers for adapters of {NUMBERS}"):
        half.fit(FedMBridgeAdapters(np.zeros(7, np.float32)), round=1)


def test_a_quorum_of_all_holds_where_fewer_are_known(tiny_generator):
    toy = toy_of(tiny_generator, broken={"text-0": {"fault": "raise describe"}})
    tools = dataclasses.replace(toy.server.context, quorum=4)
    toy.server = FedMBridgeServer(tools, toy.settings)
    toy.run(1)
    assert sorted(toy.server.codes) == ["image-0", "image-1", "text-1"]
