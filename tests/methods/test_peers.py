"""Methods on graphs of peers: who hears whom, what is averaged, and a server half that moves."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from toy_sites import CLIENTS, QUICK, Toy, same

from fedloom.config.topology import TopologySettings
from fedloom.errors import FedloomError
from fedloom.experiment.peers import declared, graph_of
from fedloom.federation.messages import Empty
from fedloom.methods.base import load_method
from fedloom.methods.gossip import GossipServer
from fedloom.methods.moving_host import HAND_OVER, MovingServer, packed, unpacked
from fedloom.registry import METHODS

FOUR = {f"image-{i}": "image" for i in range(4)}
SIX = {f"image-{i}": "image" for i in range(6)}
KNOWN = {name: peers for name in QUICK if (peers := declared(load_method(name)[0]))}
GOSSIP = [name for name, peers in KNOWN.items() if peers.round]
MOVING = [name for name, peers in KNOWN.items() if peers.moves]
PUBLIC = {"shared": "public", "public": 10}


def settings_of(method):
    return PUBLIC if method in ("fedmd", "fedmekt") else {"decoder": False} if method == "feddat" else {}


def peers_of(method, kind="ring", clients=FOUR, folder=None, **settings):
    """A toy whose server halves are the peers'."""
    toy = Toy(folder, method, clients=clients, **settings)
    toy.graph = graph_of(TopologySettings(kind=kind), list(clients))
    server = MovingServer if folder else GossipServer
    toy.server = server(toy.context, toy.settings, load_method(method)[0], toy.graph)
    return toy


def close(one, two):
    assert one.keys() == two.keys()
    for name, client in one.items():
        for key, value in client.items():
            np.testing.assert_allclose(value, two[name][key], rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}")


# ------------------------------------------------------------------------------------------------------- gossip


@pytest.mark.parametrize("method", GOSSIP)
def test_the_complete_graph_is_the_star_of_equals(method):
    equal = {"weighting": "equal"} if "weighting" in load_method(method)[0].settings.model_fields else {}
    star = Toy(None, method, clients=FOUR, **settings_of(method), **equal)
    peers = peers_of(method, "complete", **settings_of(method))
    one, two = star.run(2), peers.run(2)
    close(star.clients(), peers.clients())
    assert [info.losses["clients"] for info in two] == pytest.approx([info.losses["clients"] for info in one])


@pytest.mark.parametrize("method", ["fedmd", "fedproto"])
def test_with_two_kinds_of_data_too(method):
    star = Toy(None, method, **settings_of(method))
    peers = peers_of(method, "complete", CLIENTS, **settings_of(method))
    star.run(2)
    peers.run(2)
    close(star.clients(), peers.clients())


def test_on_a_ring_each_has_the_mean_of_three():
    toy = peers_of("fedavg", clients=SIX)
    toy.run(1)
    sent = {k: toy.half(k).parameters() for k in SIX}
    for i, k in enumerate(SIX):
        (average,) = toy.server.halves[k].groups.values()
        for name, value in average.items():
            near = [sent[f"image-{j % 6}"][name] for j in (i - 1, i, i + 1)]
            np.testing.assert_allclose(value, np.mean(near, axis=0), atol=1e-6)
    assert toy.server.told()["consensus_distance"] > 0
    mean = np.mean([next(iter(h.groups.values()))["head.weight"] for h in toy.server.halves.values()], axis=0)
    np.testing.assert_allclose(mean, np.mean([p["head.weight"] for p in sent.values()], axis=0), atol=1e-6)


def test_the_ledger_has_a_row_for_each_way_and_nothing_else():
    toy = peers_of("fedavg")
    toy.run(2)
    rows = toy.ledger.rows()
    assert {row["direction"] for row in rows} == {"up"}
    ways = sorted((row["client"], row["to"]) for row in rows if row["round"] == 1)
    assert ways == sorted((k, n) for k, near in toy.graph.near.items() for n in near)
    sizes = {row["encoded_bytes"] for row in rows}
    assert toy.ledger.totals(2, encoded=True) == (8 * sizes.pop(), 0)
    assert sum(row["seconds"] is not None for row in rows if row["round"] == 1) == 4


def test_a_public_set_goes_to_each_once():
    toy = peers_of("fedmd", **PUBLIC)
    toy.run(2)
    down = [row for row in toy.ledger.rows() if row["direction"] == "down"]
    assert sorted(row["client"] for row in down) == sorted(FOUR)
    assert {row["message"] for row in down} == {"SharedPictures"}
    assert len([row for row in toy.ledger.rows() if row["direction"] == "up"]) == 2 * 8


def test_another_architecture_hears_nothing():
    toy = peers_of("fedavg", clients={"image-0": "image", "text-0": "text", "image-1": "image", "text-1": "text"})
    toy.run(1)
    assert toy.ledger.rows() == []
    for k, half in toy.server.halves.items():
        (average,) = half.groups.values()
        assert same(average, toy.half(k).parameters())  # on this ring nobody is next to one like itself


def test_who_is_away_keeps_its_own_and_its_neighbours_share_the_rest():
    toy = peers_of("fedavg")
    toy.run(1)
    before = toy.server.halves["image-0"].groups
    client = toy.half("image-0").state()[0]
    with toy.federation.among(("image-1", "image-2", "image-3")):
        toy.run(1)
    assert toy.server.halves["image-0"].groups is before
    assert same(toy.half("image-0").state()[0], client)
    assert toy.server.halves["image-1"].say == pytest.approx({"image-1": 2 / 3, "image-2": 1 / 3})
    assert toy.server.halves["image-2"].say == pytest.approx({f"image-{i}": 1 / 3 for i in (1, 2, 3)})
    assert {row["to"] for row in toy.ledger.rows() if row["round"] == 2} == {"image-1", "image-2", "image-3"}
    toy.run(1)  # and goes on from what it has
    assert toy.federation.missing == []


def test_who_is_late_is_sent_and_not_used():
    toy = peers_of("fedavg")
    with toy.federation.among(tuple(FOUR), ("image-0",)):
        toy.run(1)
    assert toy.server.halves["image-0"].groups == {}
    assert "image-0" not in toy.server.halves["image-1"].say
    assert ("image-0", "image-1") in {(row["client"], row["to"]) for row in toy.ledger.rows()}


def test_a_client_that_fails_costs_its_neighbours_no_round():
    toy = peers_of("fedavg", broken={"image-0": {"fault": "raise fit"}})
    (info,) = toy.run(1)
    assert np.isfinite(info.losses["clients"])
    assert [m.client for m in toy.federation.missing] == ["image-0"]
    assert toy.server.halves["image-1"].say == pytest.approx({"image-1": 2 / 3, "image-2": 1 / 3})


def test_the_halves_survive():
    toy, again = peers_of("fedproto"), peers_of("fedproto")
    toy.run(2)
    again.server.load_state(*unpacked(packed(toy.server.state())))
    for k, half in toy.server.halves.items():
        assert isinstance(again.server.halves[k].message(k, "image"), type(half.message(k, "image")))
        assert same(*(s.halves[k].message(k, "image").prototypes for s in (toy.server, again.server)))
    assert not isinstance(toy.server.halves["image-0"].message("image-0", "image"), Empty)


# ------------------------------------------------------------------------------------------------- a moving host


@pytest.mark.parametrize("method", MOVING)
def test_among_all_a_moving_half_is_the_star(method, tiny_generator):
    star, peers = Toy(tiny_generator, method), peers_of(method, "complete", CLIENTS, tiny_generator)
    one, two = star.run(3), peers.run(3)
    assert all(same(client, peers.clients()[k]) for k, client in star.clients().items())
    assert [info.losses for info in two] == [info.losses for info in one]
    assert same(peers.server.half.state()[0], star.server.state()[0])


def test_it_goes_round_and_its_way_is_in_the_ledger(tiny_generator):
    toy = peers_of("fedmmkt", "ring", CLIENTS, tiny_generator)
    hosts = []
    for _ in range(5):
        toy.run(1)
        hosts.append(toy.server.host)
    assert hosts == ["image-0", "image-1", "text-0", "text-1", "image-0"]
    way = [row for row in toy.ledger.rows() if row["verb"] == HAND_OVER]
    assert [(row["round"], row["client"], row["to"]) for row in way] == [
        (t, *pair) for t, pair in enumerate(pairwise(hosts), 2)
    ]
    assert all(row["encoded_bytes"] == row["payload_bytes"] > 10_000 for row in way)
    rest = [row for row in toy.ledger.rows() if row["verb"] != HAND_OVER and row["round"] == 1]
    assert {row["client"] for row in rest} == {"image-1", "text-1"}  # the neighbours; to itself it sends nothing
    assert {row["to"] for row in rest if row["direction"] == "up"} == {"image-0"}


def test_a_host_that_is_away_hands_over_to_who_is_there(tiny_generator):
    toy = peers_of("fedmmkt", "ring", CLIENTS, tiny_generator)
    toy.run(1)
    with toy.federation.among(("image-1", "text-0", "text-1"), ("image-1",)):
        toy.run(1)
    assert toy.server.host == "text-1"  # image-1 is late
    with toy.federation.among(("image-1",)):
        (info,) = toy.run(1)
    assert toy.server.host == "text-1"  # nobody next to it is there
    assert info.labels is None
    assert not [row for row in toy.ledger.rows() if row["round"] == 3]


def test_a_half_that_arrives_otherwise_is_refused(tiny_generator, monkeypatch):
    toy = peers_of("fedmmkt", "ring", CLIENTS, tiny_generator)
    toy.run(1)
    from fedloom.methods import moving_host

    def damaged(payload):
        arrays, rest = unpacked(payload)
        name = next(k for k in arrays if arrays[k].dtype == np.float32 and arrays[k].size)
        arrays[name] = arrays[name] + 1
        return arrays, rest

    monkeypatch.setattr(moving_host, "unpacked", damaged)
    with pytest.raises(FedloomError, match="took over from image-0 has the digest"):
        toy.run(1)


def test_every_method_does_without_a_server_or_says_why():
    for name in METHODS.usable():
        method, _ = load_method(name)
        assert declared(method) or method.needs_server != type(method).needs_server, name


def test_the_guide_names_who_does_without():
    page = (Path(__file__).parents[2] / "docs" / "guide" / "without-a-server.md").read_text(encoding="utf-8")
    table = page.split("| methods | what")[1].split("\n\n")[0]
    told = set(re.findall(r"`([a-z-]+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:])))
    peers = {name: declared(load_method(name)[0]) for name in METHODS.usable()}
    assert told == {name for name, how in peers.items() if how and how.round}
    moving = page.split("## The server half moves")[1].split("\n\n")[1].split("On the complete")[0]
    assert {name for name, how in peers.items() if how and how.moves} <= set(re.findall(r"`([a-z-]+)`", moving))
