"""A real silo under the run's privacy: noise that the server cannot compute, and a book of what is spent."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloom.errors import BadInput
from fedloom.experiment.silo_offer import make_offer
from fedloom.methods.base import TrainOrder
from fedloom.privacy.book import read_book
from small_silos import SIDE, build, pictures, silo


@pytest.fixture(scope="module")
def private(server):
    """The server's offer of a private run."""
    clients = server.config.clients.model_validate(
        server.config.clients.model_dump(mode="json") | {"privacy": {"epsilon": 3.0}}
    )
    steps = {"private_steps": 2, "extra_steps": 0}
    config = server.config.model_copy(update={"clients": clients, "method": "standalone", "settings": steps})
    return json.loads(json.dumps(make_offer(config, tuple(server.offer["class_names"]), SIDE)))


def changes(offer):
    """What is other in it than in the run's own offer, and batches of all samples, whose noise is soon found."""
    return {k: v for k, v in offer.items() if k != "server"} | {"training": offer["training"] | {"batch": 32}}


def test_a_silo_counts_what_a_server_would_have_it_forget(server, private, tmp_path):
    """The steps of a warm start that is done twice, as after a rewind, count twice; noise is of no seed."""
    assert private["privacy"]["steps"] == 3 + 2 * 2
    assert "privacy" not in server.offer
    names = {"class_names": ["Poppy", "LILY", "iris"]}
    own = silo("image", pictures(tmp_path / "data"))
    book = server.public.parent / "privacy" / "clinic.json"
    book.unlink(missing_ok=True)
    one = build(server, own, **(changes(private) | names))
    assert read_book(book)[0][0][2] == 3
    two = build(server, own, **(changes(private) | names))
    assert read_book(book)[0][0][2] == 6
    a, b = one.state()[0], two.state()[0]
    assert any(not np.array_equal(a[k], b[k]) for k in a)
    two.train(TrainOrder(20), round=1)
    assert read_book(book)[0][0][2] == 7  # as many as the run plans
    two.load_state(*one.state())
    assert two.context.history[0][2] == 7
    book.unlink()


def test_attack_a_server_that_offers_privacy_and_asks_for_more_is_refused(server, private, tmp_path):
    own = silo("image", pictures(tmp_path / "data"))
    names = {"class_names": ["Poppy", "LILY", "iris"]}
    for method, settings, said in (
        ("fedmmkt", {"quorum_of": "knowing"}, "quorum_of = 'knowing'"),
        ("fedproto", {}, "clients of fedproto use private samples otherwise"),
    ):
        asked = {"method": method, "settings": settings, "privacy": private["privacy"]}
        with pytest.raises(BadInput, match=said):
            build(server, own, **(names | asked))


def test_a_model_with_batch_norms_is_refused_where_it_is(server, private, tmp_path):
    own = silo("image", pictures(tmp_path / "data"), model={"arch": "resnet", "patch": 6})
    with pytest.raises(BadInput, match="BatchNorm2d makes one sample's gradient depend on others"):
        build(server, own, **(changes(private) | {"class_names": ["Poppy", "LILY", "iris"]}))
