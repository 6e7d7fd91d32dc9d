"""Every method, in rounds that some clients are away from, or late in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_sites import ONE_EACH, PAIRED, QUICK, Toy

from fedloom.errors import BadInput
from fedloom.federation.messages import Empty
from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE

WITH_CLIENTS = [m for m in QUICK if load_method(m)[0].tasks]
JOINT = [m for m in CATALOGUE if load_method(m)[0].tasks & {"joint"}]
# Those asked in each of four rounds, and those late among them: one modality alone, both, a late one, late ones alone.
ROUNDS = (
    (("image-0",), ()),
    (("image-1", "text-0"), ()),
    (("image-0", "image-1", "text-1"), ("image-1",)),
    (("image-0", "text-0"), ("image-0", "text-0")),
)


def rounds(toy, plan):
    """The infos of rounds with those who take part by `plan`, and who was asked in each."""
    infos, asked = [], []
    for there, late in plan:
        with toy.federation.among(there, late):
            infos += toy.run(1)
        t = toy.federation.round
        asked.append({row["client"] for row in toy.ledger.rows() if row["round"] == t})
    return infos, asked


@pytest.mark.parametrize("method", WITH_CLIENTS)
def test_with_some_away_and_some_late(method, tiny_generator):
    toy = Toy(None if method in PAIRED else tiny_generator, method)
    toy.server.context = replace(toy.context, rounds=len(ROUNDS) + 1)
    infos, asked = rounds(toy, ROUNDS)
    assert toy.federation.missing == []
    assert all(np.isfinite(v) for info in infos for v in info.losses.values() if v is not None)
    assert all(who <= set(there) for who, (there, _) in zip(asked, ROUNDS))
    assert toy.federation.clients == toy.federation.everybody
    toy.run(1)  # and then all of them
    assert toy.federation.missing == []


@pytest.mark.parametrize("method", [m for m in PAIRED if m != "r-standalone"])
def test_clients_of_pairs_come_and_go(method):
    toy = Toy(None, method, clients=ONE_EACH)
    rounds(toy, ((("pair-0",), ()), (("image-0", "text-0"), ("text-0",)), (tuple(ONE_EACH), ())))
    assert toy.federation.missing == []


@pytest.mark.parametrize("method", JOINT)
def test_multimodal_clients_come_and_go(method):
    from joint import Joint

    toy = Joint(CATALOGUE[method].item)
    for there, late in ((("a",), ()), (("b", "c"), ("c",)), (("d", "a"), ("d", "a")), (("a", "b", "c", "d"), ())):
        with toy.federation.among(there, late):
            toy.run(1)
    assert toy.federation.missing == []


def test_who_is_late_is_asked_and_not_heard(tiny_generator):
    toy = Toy(tiny_generator, "fedmd")
    with toy.federation.among(("image-0", "text-0"), ("text-0",)):
        toy.run(1)
    sent = {(row["client"], row["direction"], row["verb"]) for row in toy.ledger.rows()}
    assert {("text-0", "down", "infer"), ("text-0", "up", "infer"), ("image-0", "down", "learn")} <= sent
    assert ("text-0", "down", "learn") not in sent


def test_nobody_else_can_be_asked(tiny_generator):
    toy = Toy(tiny_generator, "fedmd")
    with toy.federation.among(("image-0",)):
        assert toy.federation.clients_of("text") == ()
        assert toy.federation.modality("text-0") == "text"
        with pytest.raises(BadInput, match="text-0 takes no part in round 0"):
            toy.federation.ask("evaluate", {"text-0": Empty()})


def test_a_quorum_is_of_those_who_are_there(tiny_generator):
    toy = Toy(tiny_generator, "fedmd")
    with toy.federation.among(("image-0", "text-0")):
        assert len([r for r in toy.federation.ask("evaluate", Empty(), quorum=3) if r.ok]) == 2
