"""Lessons of rounds that a client was away from: kept, taught once, resumed, and to the numbers of who was there."""

from __future__ import annotations

import numpy as np
import pytest
from toy_sites import Toy, same

SHARED = ("fedmmkt", "fedloom", "fedmd", "fedgems", "fed-et", "fedmekt", "creamfl")
THREE = ("image-0", "text-0", "text-1")


def verbs(toy, client, t):
    """What a client was asked in round t, in order."""
    rows = toy.ledger.rows()
    return [r["verb"] for r in rows if r["client"] == client and r["round"] == t and r["direction"] == "down"]


@pytest.mark.parametrize("method", SHARED)
def test_who_comes_back_is_taught_what_it_has_missed_once(method, tiny_generator):
    toy = Toy(tiny_generator, method, catch_up=True)
    for _ in range(2):
        with toy.federation.among(THREE):
            toy.run(1)
    learn = toy.server.learn_verb
    infos = toy.run(2)
    assert toy.federation.missing == []
    assert verbs(toy, "image-1", 3)[:4] == ["recall", learn, "recall", learn]
    assert "recall" not in verbs(toy, "image-1", 4) + verbs(toy, "image-0", 3)
    assert [info.facts["lessons_caught_up"] for info in infos] == [2, 0]
    pools = [toy.half(name).pool.parts for name in ("image-0", "image-1")]
    assert len(pools[1]) == 4
    for known, told in zip(*pools):  # what it has learned of the missed rounds is what another has
        for key in known.keys() - {"said", "weight"}:  # those are of the client itself
            assert np.array_equal(known[key], told[key]), key


def test_without_it_nothing_is_kept_or_taught(tiny_generator):
    toy = Toy(tiny_generator, "fedloom")
    with toy.federation.among(THREE):
        toy.run(1)
    (info,) = toy.run(1)
    assert "recall" not in verbs(toy, "image-1", 2)
    assert "lessons_caught_up" not in info.facts
    assert not toy.server.missed.lessons
    assert "recall" not in toy.federation.contract.verbs


def test_with_everybody_there_it_changes_nothing(tiny_generator):
    both = [Toy(tiny_generator, "fedloom", catch_up=on) for on in (None, True)]
    for toy in both:
        toy.run(3)
    assert all(same(*(toy.half(name).state()[0] for toy in both)) for name in both[0].federation.clients)
    assert both[0].ledger.totals() == both[1].ledger.totals()


@pytest.mark.parametrize("method", ["fedmd", "creamfl"])
def test_a_newcomer_is_sent_the_public_set_once(method, tiny_generator):
    toy = Toy(tiny_generator, method, catch_up=True, shared="public", public=10)
    with toy.federation.among(THREE):
        toy.run(2)
    toy.run(1)
    assert toy.federation.missing == []
    assert verbs(toy, "image-1", 3) == ["recall", "learn", "infer", "learn"]
    rows = [r for r in toy.ledger.rows() if r["client"] == "image-1" and r["direction"] == "down"]
    assert sum("images" in {f["name"] for f in r["fields"] if f.get("bytes", 0) > 100} for r in rows) == 1


def test_one_whose_task_nobody_had_learns_what_all_are_taught(tiny_generator):
    toy = Toy(tiny_generator, "fedmd", catch_up=True)
    with toy.federation.among(("image-0", "image-1")):
        toy.run(1)
    toy.run(1)
    assert verbs(toy, "text-0", 2) == ["recall", "learn", "infer", "learn"]


def test_one_that_is_late_is_taught_later(tiny_generator):
    toy = Toy(tiny_generator, "fedmd", catch_up=True)
    with toy.federation.among(THREE):
        toy.run(1)
    with toy.federation.among((*THREE, "image-1"), ("image-1",)):
        toy.run(1)
    assert verbs(toy, "image-1", 2) == ["recall", "infer"]
    toy.run(1)
    assert verbs(toy, "image-1", 3) == ["recall", "learn", "recall", "learn", "infer", "learn"]


def test_the_server_knows_after_a_restart_what_was_missed(tiny_generator):
    toys = [Toy(tiny_generator, "fedloom", catch_up=True) for _ in range(2)]
    for toy in toys:
        with toy.federation.among(THREE):
            toy.run(2)
    again = Toy(tiny_generator, "fedloom", catch_up=True)
    again.server.load_state(*toys[1].server.state())
    for name in again.federation.clients:
        again.half(name).load_state(*toys[1].half(name).state())
    again.federation.round = 2
    for toy in (toys[0], again):
        toy.run(1)
    assert verbs(again, "image-1", 3) == verbs(toys[0], "image-1", 3)
    assert all(same(toys[0].half(k).state()[0], again.half(k).state()[0]) for k in again.federation.clients)
    assert same(toys[0].server.state()[0], again.server.state()[0])
