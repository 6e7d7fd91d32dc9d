"""Rounds with one client that sends numbers far too large: what it costs, who is told, who is left out."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from toy_sites import CLIENTS, SAMPLES, Toy

from fedloom.errors import BadInput
from fedloom.federation.messages import LIMIT
from fedloom.methods.base import Done, Info, Standing, load_method
from fedloom.methods.catalogue import CATALOGUE
from fedloom.methods.suspects import Figures, Suspects

LIAR = "image-0"
MANY = {f"{m}-{k}": m for m in ("image", "text") for k in range(4)}
ROBUST = {"aggregate": "median", "norm_bound": 2.0}
AVERAGING = ("fedavg", "fedmd", "fed-et", "fedmekt", "creamfl", "fedmmkt")


def scaled(value, size):
    if isinstance(value, dict):
        return {k: scaled(v, size) for k, v in value.items()}
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return np.clip(value * np.float32(size), -LIMIT, LIMIT)


def corrupt(toy, size=1e6, client=LIAR):
    """Has the client send all that it sends `size` times as large, as far as that is let in."""
    half = toy.half(client)
    for verb in ("infer", "fit"):
        if told := getattr(half, verb, None):

            def lie(message, *, round, told=told):
                reply = told(message, round=round)
                if isinstance(reply, Done):
                    return reply
                lies = [f.name for f in fields(reply) if f.name != "entropies"]  # more than 32 nats are refused
                return replace(reply, **{k: scaled(getattr(reply, k), size) for k in lies})

            setattr(half, verb, lie)
    return toy


def largest(toy):
    """Of all weights of the honest clients."""
    states = {k: v for k, v in toy.clients().items() if k != LIAR}
    return max(float(np.abs(v).max()) for s in states.values() for k, v in s.items() if k.startswith("context/model"))


@pytest.mark.parametrize("method", AVERAGING)
def test_honest_clients_stay_as_they_would_be(method, tiny_generator):
    clean, hit = (Toy(tiny_generator, method, MANY, **ROBUST) for _ in range(2))
    clean.run(2)
    infos = corrupt(hit).run(2)
    assert hit.federation.missing == []
    assert largest(hit) < 2 * largest(clean)
    standing = infos[-1].suspects[LIAR]
    assert "norm" in standing.stands_out
    assert not any("norm" in s.stands_out for k, s in infos[-1].suspects.items() if k != LIAR)
    assert not standing.left_out


def test_without_a_rule_one_client_spoils_the_average(tiny_generator):
    """The attack that the settings are for."""
    toy = corrupt(Toy(tiny_generator, "fedavg", MANY))
    toy.run(2)
    assert largest(toy) > 1e4


def test_who_stands_out_is_left_out_where_a_setting_says_so(tiny_generator):
    toy = corrupt(Toy(tiny_generator, "fedmd", MANY, leave_out_after=1))
    first, second = toy.run(2)
    assert not first.suspects[LIAR].left_out
    assert second.suspects[LIAR] == Standing(None, None, None, left_out=True)
    assert toy.server.suspects.left_out >= {LIAR}
    again = Toy(tiny_generator, "fedmd", MANY, leave_out_after=1).server
    again.load_state(*toy.server.state())
    assert again.suspects.rounds == toy.server.suspects.rounds


@pytest.mark.parametrize("method", CATALOGUE)
def test_the_settings_are_there_where_they_mean_something(method):
    """Not for methods that average nothing, or mix for each client."""
    has = set(load_method(method)[0].settings.model_fields) & {"aggregate", "norm_bound", "leave_out_after"}
    alone = {"standalone", "self-finetune", "centralised", "r-standalone", "disentafl", "fedmbridge"}
    few = {"fedmsplit": {"leave_out_after"}}
    rows = {"aggregate", "leave_out_after"}  # of unit length
    want = rows if method.startswith(("r-", "fedafd")) else {*rows, "norm_bound"}
    assert has == (set() if method in alone else few.get(method, want))


def test_what_a_round_may_say_of_clients():
    for wrong in (3, {"a": 3}):
        with pytest.raises(BadInput, match="expected a Standing by client"):
            Info(suspects=wrong)


def figures(norm, agreement=0.8, distance=1.0, group="image"):
    return Figures(group, norm, agreement, distance)


def test_the_watch_counts_rounds_and_compares_within_a_group():
    watch = Suspects(2)
    round_ = {**{f"i{k}": figures(1.0) for k in range(4)}, **{f"t{k}": figures(50.0, group="text") for k in range(3)}}
    assert not any(s.stands_out for s in watch.standings(round_).values())
    round_["i2"] = figures(9.0, 0.1, 9.0)
    told = watch.standings(round_)
    assert list(told) == sorted(round_)
    assert told["i2"] == Standing(9.0, 0.1, 9.0, ("agreement", "distance", "norm"))
    assert not watch.left_out
    watch.standings(round_)
    assert watch.left_out == {"i2"}
    assert Suspects(None).left_out == set()
    del round_["i2"]
    assert watch.standings(round_)["i2"].left_out


def votes(toy, labels, entropies):
    from fedloom.methods.replies import ClientOutputs

    out = ClientOutputs([], SAMPLES, 3, 8)
    out.labels, out.entropies = torch.tensor(labels), torch.tensor(entropies)
    out.present = out.labels >= 0
    out.replies = [type("R", (), {"client": k}) for k in list(CLIENTS)[: len(labels)]]
    return toy.server.vote(out, torch.full((len(labels[0]),), -1))


def test_a_cap_and_a_history_of_agreement(tiny_generator):
    """One sure client against two unsure ones, then again when it is known to have stood alone."""
    labels, entropies = [[0, 0], [1, 1], [1, 1]], [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]

    def voted(toy, n=1):
        return [votes(toy, labels, entropies).labels.tolist() for _ in range(n)]

    assert voted(Toy(tiny_generator, vote="weighted")) == [[0, 0]]
    assert voted(Toy(tiny_generator, vote="weighted", vote_cap=0.4)) == [[1, 1]]
    assert voted(Toy(tiny_generator, vote="weighted", history=0.5), 2) == [[0, 0], [1, 1]]
    assert voted(Toy(tiny_generator, vote="weighted", vote_cap=1.0)) == [[0, 0]]


def test_logits_are_no_claim(tiny_generator):
    """l-FedMMKT: logits a thousand times as large outvote two clients, unless the server works out who is sure."""
    from fedloom.methods.replies import ClientOutputs

    logits = torch.tensor([[[3e3, 0.0, 0.0]], [[0.0, 3.0, 0.0]], [[0.0, 3.0, 0.0]]])

    def voted(**settings):
        toy = Toy(tiny_generator, variant="l", vote="weighted", **settings)
        out = ClientOutputs([], 1, 3, 8)
        out.logits, out.labels, out.present = logits, logits.argmax(-1), torch.ones(3, 1).bool()
        out.modalities = ("image", "image", "text")
        out.replies = [type("R", (), {"client": k}) for k in ("image-0", "image-1", "text-0")]
        return toy.server.vote(out, torch.tensor([-1])).labels.tolist()

    assert voted() == [0]
    assert voted(vote_cap=0.5) == [1]
    assert voted(aggregate="median") == [1]


def test_who_spoils_a_round_is_dropped_before_who_agrees_is_counted(tiny_generator):
    """A round that is made again without a client counts the others' agreement once, and none of that client's."""
    toy = Toy(tiny_generator, vote="weighted", history=0.5)
    aggregate, seen = toy.server.aggregate, []

    def spoilt(t, federation, samples, outputs):
        found = aggregate(t, federation, samples, outputs)
        seen.append(dict(toy.server.vote.agreed))
        if LIAR in [r.client for r in outputs.replies]:
            raise ValueError("spoilt")
        return found

    toy.server.aggregate = spoilt
    (info,) = toy.run(1)
    assert [m.client for m in toy.federation.missing] == [LIAR]
    assert {*info.suspects} == {*CLIENTS} - {LIAR}
    assert LIAR in seen[0]
    assert not {LIAR} & {*toy.server.vote.agreed}
    assert toy.server.vote.agreed == seen[-1]
