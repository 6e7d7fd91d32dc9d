"""A real silo under the run's privacy: noise that the server cannot compute, and a book of what is spent."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.silo_offer import check_bounds, make_offer
from fedloom.federation.messages import BoundBreach
from fedloom.methods.base import TrainOrder
from fedloom.privacy.accounting import spent, usual_delta
from fedloom.privacy.book import read_book, spent_elsewhere, write_book
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


def test_a_silo_grants_an_epsilon_over_all_runs(server, private, tmp_path):
    """What other runs have spent is added up, by the silo's own books; who asks for more is refused, in one line."""
    offer = changes(private) | {"class_names": ["Poppy", "LILY", "iris"]}
    own = silo("image", pictures(tmp_path / "data")) | {"bounds": {"epsilon": 5.0}}
    book = server.public.parent / "privacy" / "clinic.json"
    other = server.public.parent.parent / "earlier" / "privacy" / "clinic.json"
    book.unlink(missing_ok=True)
    try:
        build(server, own, **offer)
        step = read_book(book)[0][0]
        delta = usual_delta(18)
        write_book(other, [(*step[:2], 1)], 0)
        assert spent_elsewhere(book, delta) == spent([(*step[:2], 1)], delta) < 2
        build(server, own, **offer)  # goes on
        write_book(other, [(*step[:2], 7)], 0)
        assert 2 < spent_elsewhere(book, delta) <= 3
        with pytest.raises(BoundBreach) as caught:
            build(server, own, **offer)
        assert str(caught.value).startswith("beyond this silo's bounds: earlier runs have spent epsilon = 2.")
        assert str(caught.value).endswith("and this one asks for 3; bounds.epsilon = 5")
        other.write_text("[]")
        with pytest.raises(FedloomError, match=r"earlier.privacy.clinic\.json"):
            build(server, own, **offer)
    finally:
        book.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        (None, "the run's epsilon is none; bounds.epsilon = 5"),
        ({"epsilon": None, "answers": {"epsilon": 1.0}, "steps": 9}, "the run's epsilon is none; bounds.epsilon = 5"),
        ({"epsilon": 5.5, "steps": 9}, "the run's epsilon is 5.5; bounds.epsilon = 5"),
    ],
)
def test_an_offer_without_or_beyond_is_refused_before_data_are_read(private, privacy, said):
    own = silo("image", "nowhere") | {"bounds": {"epsilon": 5.0}}
    with pytest.raises(BoundBreach, match=said):
        check_bounds(private | {"privacy": privacy}, silo=own)


def test_a_delta_that_makes_any_epsilon_small_is_refused(server, private, tmp_path):
    own = silo("image", pictures(tmp_path / "data")) | {"bounds": {"epsilon": 5.0}}
    offer = changes(private) | {"class_names": ["Poppy", "LILY", "iris"]}
    with pytest.raises(BoundBreach, match=r"the run's delta is 0\.5, allowed: 0\.01 or less"):
        build(server, own, **offer | {"privacy": private["privacy"] | {"delta": 0.5}})
    assert not (server.public.parent / "privacy" / "clinic.json").exists()
