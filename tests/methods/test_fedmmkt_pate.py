"""FedMMKT by PATE's votes: noise, quorum, budget and its end; sums in which nobody's vote is to be seen."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from pate_toys import counts_of, heard, pate
from toy_sites import CLIENTS, SAMPLES, same

from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.private import privacy_plan
from fedloom.experiment.resolve import completed, resolve
from fedloom.methods.fedmmkt_pate import PateServer, PateSettings
from fedloom.methods.vote_budget import VoteBudget
from fedloom.privacy.accounting import spent
from fedloom.privacy.pate import quorum_rdp
from fedloom.reporting.budgets import vote_line
from fedloom.reporting.health import warnings_of

NOISY = {"sigma_1": 3.0, "sigma_2": 2.0, "epsilon": 30.0}


# ------------------------------------------------------------------------------------------------------- the vote


def test_without_noise_it_is_the_largest_count(tiny_generator):
    toy = pate(tiny_generator, threshold=0.6)
    votes = heard(toy, "infer")
    (info,) = toy.run(1)
    counts = counts_of(votes)
    best = counts.max(1) >= 0.6 * len(CLIENTS)
    assert np.array_equal(info.labels.kept, best)
    assert np.array_equal(info.labels.voted[best], counts.argmax(1)[best])
    assert set(info.labels.voted[~best]) <= {-1}
    assert info.labels.votes is None
    assert info.losses["clients"] is None
    assert info.suspects == info.facts == {}
    assert len(toy.server.tuner.pool.parts[0]["labels"]) == best.sum()


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_quorum(threshold, tiny_generator):
    """All pass where none is asked for; those alone that all agree on where it is all clients."""
    toy = pate(tiny_generator, threshold=threshold)
    votes = heard(toy, "infer")
    kept = toy.run(1)[0].labels.kept
    assert kept.all() if threshold == 0 else np.array_equal(kept, counts_of(votes).max(1) >= 3.9)


def test_who_answers_nothing_has_no_vote(tiny_generator):
    toy = pate(tiny_generator, broken={"text-0": {"spoilt": (0, 5)}, "text-1": {"fault": "raise infer"}})
    votes = heard(toy, "infer")
    (info,) = toy.run(1)
    assert votes["text-0"].labels[[0, 5]].tolist() == [-1, -1]
    assert [m.client for m in toy.federation.missing] == ["text-1"]
    assert info.vote_budget["asked"] == SAMPLES


# ----------------------------------------------------------------------------------------------------- the budget


def test_what_a_round_costs(tiny_generator):
    (info,) = pate(tiny_generator, **NOISY).run(1)
    told = info.vote_budget
    history = [(3.0, 1.0, told["asked"]), (2.0 / math.sqrt(2), 1.0, told["answered"])]
    assert told["epsilon"] == spent(history, 1e-5)
    assert (told["budget"], told["delta"], told["asked"], told["refused"]) == (30.0, 1e-5, SAMPLES, 0)
    assert told["answered"] == info.labels.kept.sum()


def budget(**settings):
    return VoteBudget(PateSettings(**{"sigma_1": 30.0, "sigma_2": 10.0, "threshold": 0.5} | settings))


AGREED = np.tile([95.0, 3.0, 2.0], (2000, 1))


def test_the_end_of_the_budget():
    """Never more than it, and no sample fewer than fit in the worst case; whoever is refused gets no label."""
    found = budget(epsilon=4.0)
    told = found.charged(AGREED, np.zeros(2000, np.int64), 50.0)
    n = found.asked
    assert (told[:n] == 0).all()
    assert (told[n:] == -1).all()
    assert found.refused == 2000 - n
    assert found.told()["epsilon"] <= 4.0 < spent([(30.0, 1.0, n + 1), (10.0 / math.sqrt(2), 1.0, n + 1)], 1e-5)
    assert not found.room()
    assert (found.charged(AGREED, np.zeros(2000, np.int64), 50.0) == -1).all()


def test_a_sample_without_quorum_costs_its_check_alone():
    found = budget()
    found.charged(AGREED[:10], np.full(10, -1), 50.0)
    assert found.told()["epsilon"] == spent([(30.0, 1.0, 10)], 1e-5)


def test_votes_that_agree_cost_less():
    """The budget lasts longer by the votes given; the bound for any votes stands beside."""
    plain, dependent = budget(epsilon=4.0, sigma_1=60.0), budget(epsilon=4.0, sigma_1=60.0, accounting="data-dependent")
    for found in (plain, dependent):
        found.charged(AGREED, np.zeros(2000, np.int64), 50.0)
    assert dependent.asked > 10 * plain.asked
    told = dependent.told()
    assert told["epsilon"] <= 4.0 < told["epsilon_independent"]
    torn = budget(epsilon=4.0, sigma_1=60.0, accounting="data-dependent")
    torn.charged(np.tile([34.0, 33.0, 33.0], (2000, 1)), np.zeros(2000, np.int64), 50.0)
    assert torn.asked == plain.asked
    assert torn.told()["epsilon"] == pytest.approx(torn.told()["epsilon_independent"])
    assert dependent.by_votes[0] > dependent.asked * quorum_rdp(95.0, 50.0, 60.0, np.array([1.1]))[0]


@pytest.mark.parametrize("secure", [False, True])
def test_the_run_goes_on_without_votes(secure, tiny_generator):
    """Clients and generator go on learning the labels they have; nobody is asked any more."""
    noise = {"sigma_2": 1.0} if secure else {"sigma_1": 2.0, "sigma_2": 1.0}
    toy = pate(tiny_generator, secure=secure, epsilon=32.0, threshold=0.0, replay_rounds=1, **noise)
    first, second, third = toy.run(3)
    assert first.labels.kept.any()
    assert second.vote_budget["refused"] > 0
    assert third.labels is None
    assert third.vote_budget["epsilon"] == second.vote_budget["epsilon"] <= 32.0
    assert third.losses["generator"] is not None
    assert {row["verb"] for row in toy.ledger.rows() if row["round"] == 3} == {"learn"}
    pool = toy.half("image-0").pool.samples()
    before = {k: v.copy() for k, v in toy.clients()["image-0"].items()}
    toy.run(1)
    assert toy.half("image-0").pool.samples().keys() == pool.keys()
    assert not same(before, toy.clients()["image-0"])
    assert toy.federation.missing == []


def test_a_run_that_ended_says_so():
    told = {"epsilon": 7.9, "budget": 8.0, "delta": 1e-5, "asked": 40, "answered": 9, "refused": 60}
    rows = [{"round": 0}, {"round": 1, "vote_budget": told}]
    (found,) = [w for w in warnings_of({}, rows, {}) if w.name == "votes-ended"]
    assert found.message == "the privacy budget of votes was spent in round 1: 40 samples asked about, 60 not"
    assert found.level == "caution"
    rows[1]["vote_budget"] = told | {"asked": 0}
    (found,) = [w for w in warnings_of({}, rows, {}) if w.name == "votes-ended"]
    assert found.message.endswith(
        "suffices for no sample: epsilon = 8 is less than one costs, so none of 60 was asked about"
    )
    assert found.level == "serious"
    head, lines = vote_line(rows)
    assert dict(zip(head, lines[0]))["epsilon"] == "7.9"
    assert vote_line([{"round": 0}, {"vote_budget": 5}]) == ([], [])


@pytest.mark.parametrize("accounting", ["data-independent", "data-dependent"])
def test_state_goes_on(accounting, tiny_generator):
    """A server that takes up its state again: the same costs and labels as one that was not stopped."""
    toys = [pate(tiny_generator, **NOISY, accounting=accounting) for _ in range(2)]
    whole = toys[0].run(2)
    toys[1].run(1)
    fresh = PateServer(toys[1].context, toys[1].settings)
    fresh.load_state(*toys[1].server.state())
    toys[1].server = fresh
    (again,) = toys[1].run(1)
    assert again.vote_budget == whole[1].vote_budget
    assert np.array_equal(again.labels.voted, whole[1].labels.voted)


def test_noise_at_a_real_server(tiny_generator):
    """Of a key that is kept; the same for the same counts, another for others."""
    toy = pate(tiny_generator, **NOISY)
    assert toy.server.key == ""
    secret = PateServer(dataclasses.replace(toy.context, secret=True), toy.settings)
    other = PateServer(dataclasses.replace(toy.context, secret=True), toy.settings)
    assert len(secret.key) == 32
    assert secret.key != other.key
    ones = np.ones((3, 2))
    assert secret._noise(1, ones).normal() == secret._noise(1, ones.copy()).normal()
    drawn = {secret._noise(1, ones).normal(), secret._noise(2, ones).normal(), secret._noise(1, 2 * ones).normal()}
    assert len(drawn | {other._noise(1, ones).normal()}) == 4
    other.load_state(*secret.state())
    assert other.key == secret.key


# ------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollback": 0.2}, "rollback = 0.2 asks for more than votes"),
        ({"leave_out_after": 2}, "leave_out_after = 2 asks for more than votes"),
        ({"aggregate": "median"}, "aggregate = 'median' asks for more than votes"),
        ({"secure": True, "accounting": "data-dependent"}, "nobody knows the counts"),
        ({"secure": True, "sigma_1": 4.0}, "the quorum is read off the noisy counts"),
        ({"sigma_2": 0}, "sigma_2"),
        ({"delta": 1}, "delta"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(BadInput, match=message):
        resolve(load_config(values={"method": "fedmmkt-pate", "settings": settings}))


def test_noise_follows_the_number_of_clients():
    clients = {"image": [{"arch": "vit", "count": 5}], "text": [{"arch": "bert", "count": 5}]}
    config, _, settings = completed(load_config(values={"method": "fedmmkt-pate", "clients": clients}))
    assert (settings.sigma_1, settings.sigma_2) == (3.0, 1.6)
    assert resolve(config)[1] == settings
    values = {"method": "fedmmkt-pate", "clients": clients, "settings": {"secure": True}}
    config, _, settings = completed(load_config(values=values))
    assert (settings.sigma_1, settings.sigma_2) == (None, 1.6)
    assert resolve(config)[1] == settings


def test_one_client_has_no_secure_sum():
    clients = {"image": [{"arch": "vit", "count": 1}], "text": []}
    with pytest.raises(BadInput, match="two clients or more"):
        resolve(load_config(values={"method": "fedmmkt-pate", "clients": clients, "settings": {"secure": True}}))


def test_opacus_is_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"fedmmkt-pate needs opacus.*fedloom\[privacy\]"):
        resolve(load_config(values={"method": "fedmmkt-pate"}))


def test_it_goes_with_private_steps():
    values = {"method": "fedmmkt-pate", "rounds": 3, "clients": {"privacy": {"epsilon": 4.0}, "warm_steps": 7}}
    assert privacy_plan(*completed(load_config(values=values))).steps == 37
