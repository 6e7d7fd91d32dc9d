"""Methods on public pairs: answers and clients that are left out, and a public set that is sent again."""

from __future__ import annotations

import dataclasses
import functools
import logging

import numpy as np
import pytest
import torch
from paired_toys import AFD, TALKING, TWO_EACH, altered, listen, server
from toy_sites import ONE_EACH, PAIRS, WIDTH, Toy, public_pairs, same

from fedloom.errors import BadInput
from fedloom.federation.exchange import Reply
from fedloom.methods.retrieval_messages import Views

ALTERED = {
    "another set": {"public": lambda name: "another set"},
    "too few": {"image": lambda z: z[:-1], "text": lambda z: z[:-1]},
    "too wide": {
        "image": lambda z: np.pad(z, ((0, 0), (0, 1))),
        "text": lambda z: np.pad(z, ((0, 0), (0, 1))),
    },
    "half of it": {"text": lambda z: None},
    "not a number": {"image": lambda z: z * np.nan},
    "half precision": {"image": lambda z: z.astype(np.float16)},
}


@functools.cache
def without_one(method):
    toy = Toy(None, method, clients=TWO_EACH, broken={"pair-1": {"fault": "raise learn"}})
    toy.run(1)
    return toy.server.state()[0]


@pytest.mark.parametrize("how", ALTERED)
@pytest.mark.parametrize("method", [AFD, "r-fedmd"])
def test_an_answer_that_does_not_fit_is_left_out_and_the_others_count(method, how, caplog):
    toy = Toy(None, method, clients=TWO_EACH)
    altered(toy, "pair-1", **ALTERED[how])
    heard = listen(toy)
    with caplog.at_level(logging.WARNING):
        (info,) = toy.run(1)
    assert {m: len(z) for m, (z, _) in heard.items()} == {"image": 3, "text": 3}
    assert info.losses["distillation"] > 0
    refused = how in ("not a number", "half precision")  # already at the site
    assert [m.client for m in toy.federation.missing] == ["pair-1"] * refused
    assert refused or "pair-1 answered about" in caplog.text
    expected, state = without_one(method), toy.server.state()[0]
    assert same(expected, state)


@pytest.mark.parametrize("method", TALKING)
def test_rows_that_are_not_finite_are_absent(method):
    """The model of image-0 spoils row 2: for that sample the other owner counts alone."""
    toy = Toy(None, method, clients=TWO_EACH, broken={"image-0": {"spoilt": (2,)}})
    heard = listen(toy)
    (info,) = toy.run(1)
    assert toy.federation.missing == []
    z, present = heard["image"]
    absent = torch.ones(4, PAIRS, dtype=torch.bool)
    absent[0, 2] = False  # clients in the order of their names
    assert torch.equal(present, absent)
    assert torch.isfinite(z).all()
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values() if v.dtype.kind == "f")
    assert np.isfinite(info.losses["weight entropy image"])


@pytest.mark.parametrize("method", TALKING)
def test_a_kind_without_an_owner_is_not_distilled(method):
    toy = Toy(None, method, clients={"text-0": "text"}, server_steps=0, together=False)
    before = toy.server.state()[0]
    (info,) = toy.run(1)
    after = toy.server.state()[0]
    assert "weight entropy image" not in info.losses
    assert all(np.array_equal(before[k], after[k]) for k in before if k.startswith("models/image/"))


def test_a_client_that_failed_to_take_the_set_is_sent_it_again():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH)
    half = toy.half("text-0")
    hold, half.hold = half.hold, _lost
    heard = listen(toy)
    toy.run(1)
    assert toy.server.holders == {"image-0", "pair-0"}
    assert len(heard["text"][0]) == 1
    half.hold = hold
    toy.run(1)
    assert len(heard["text"][0]) == 2
    asked = [(r["round"], r["client"]) for r in toy.ledger.rows() if (r["verb"], r["direction"]) == ("hold", "down")]
    assert sorted(asked) == [(1, "image-0"), (1, "pair-0"), (1, "text-0"), (2, "text-0")]


def _lost(message, *, round):
    raise RuntimeError("out of luck")


def test_a_client_that_forgot_all_is_sent_the_set_after_it_says_so():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH)
    toy.run(1)
    toy.half("text-0").public_name = ""
    toy.run(2)
    assert [(m.round, m.client) for m in toy.federation.missing] == [(2, "text-0")]
    assert "holds ''" in toy.federation.missing[0].detail


def test_a_quorum_larger_than_what_is_left_to_ask():
    toy = Toy(None, "r-fed-et", clients=ONE_EACH, broken={"text-0": {"fault": "raise hold"}})
    toy.server.context = dataclasses.replace(toy.server.context, quorum=3)
    (info,) = toy.run(1)
    assert info.losses["distillation"] > 0


def test_nobody_holds_the_set():
    broken = {k: {"fault": "raise hold"} for k in ONE_EACH}
    (info,) = Toy(None, AFD, clients=ONE_EACH, broken=broken).run(1)
    assert info.losses["clients"] is None
    assert info.losses["distillation"] is not None  # its matching goes on, as Standalone's does


def test_a_server_without_encoders_or_pairs_is_refused():
    with pytest.raises(BadInput, match="needs encoders on the server"):
        Toy(None, "r-fedmd", clients=ONE_EACH, tools={"models": None})
    with pytest.raises(BadInput, match="no generic part"):
        Toy(None, "r-fedmd", clients=ONE_EACH, tools={"public": None})


def test_the_set_is_what_there_is_and_its_name_is_of_what_it_holds():
    one, two = (Toy(None, "r-fedmd", clients=ONE_EACH, public=n) for n in (600, PAIRS))
    assert len(one.server.pairs) == PAIRS
    assert one.server.name == two.server.name
    pairs = public_pairs()
    words = dataclasses.replace(pairs, captions=(*pairs.captions[:-1], "another"))
    images = dataclasses.replace(pairs, images=255 - pairs.images)
    names = {one.server.name}
    for other in (words, images, public_pairs(6)):
        names.add(Toy(None, "r-fedmd", clients=ONE_EACH, tools={"public": other}).server.name)
    assert len(names) == 4


def test_a_reply_is_judged_by_its_own_kind():
    one = server("r-fedmd")
    z = np.ones((PAIRS, WIDTH), np.float32)

    def fits(modality, **views):
        return one._fits(Reply("c", modality, "learn", 1, Views(one.name, 0.0, **views)))

    assert fits("image", image=z)
    assert not fits("image", text=z)
    assert not fits("pair", image=z)
    assert fits("pair", image=z, text=z)
