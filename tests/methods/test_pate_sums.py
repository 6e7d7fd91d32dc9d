"""FedMMKT by PATE's votes in secure sums: plain counts, dropouts, and nobody's vote to be seen; whole runs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from pate_toys import MANY, counts_of, heard, pate
from toy_sites import CLASSES, SAMPLES, client

import fedloom
from fedloom.errors import FedloomError
from fedloom.methods.fedmmkt_pate import PateClient, PateServer
from fedloom.methods.leaving import leaving, securely
from fedloom.privacy.book import read_book
from fedloom.privacy.secure_sum import to_fixed
from whole_runs import assert_equal


@pytest.fixture
def silent(monkeypatch):
    """No noise."""
    monkeypatch.setattr(PateClient, "noise", lambda self, shape: np.zeros(shape))


@pytest.mark.parametrize("lost", [None, "infer", "open_sum", "reveal"])
def test_secure_counts_are_plain_counts(lost, silent, tiny_generator):
    """With everybody, and with a client that fails on the way."""
    plain, secure = (pate(tiny_generator, MANY, secure=on, threshold=0.55) for on in (False, True))
    votes, counts = heard(plain, "infer"), []
    ask = secure.server._secure_counts
    secure.server._secure_counts = lambda *said: counts.append(ask(*said)) or counts[-1]
    if lost:

        def fails(message, *, round):
            raise ValueError("out of memory")

        setattr(secure.half("text-2"), {"infer": "vote_masked"}.get(lost, lost), fails)
    expected, found = plain.run(1)[0], secure.run(1)[0]
    if lost in ("infer", "open_sum"):
        del votes["text-2"]
    ((numbers, senders),) = counts
    assert np.array_equal(numbers, counts_of(votes))
    assert senders == tuple(sorted(votes))
    assert [m.client for m in secure.federation.missing] == (["text-2"] if lost else [])
    if not lost:
        assert np.array_equal(found.labels.voted, expected.labels.voted)


def test_too_few_to_the_end_is_no_vote(tiny_generator, caplog):
    toy = pate(tiny_generator, secure=True)

    def fails(message, *, round):
        raise ValueError("out of memory")

    for name in ("image-0", "text-0"):
        toy.half(name).vote_masked = fails
    (info,) = toy.run(1)
    assert info.labels is None
    assert info.vote_budget["asked"] == SAMPLES  # what was asked may have been learned
    assert "no secure sum of" in caplog.text


def test_shares_of_noise_add_up(tiny_generator):
    """Of eight clients five must stay: each adds sigma_2^2 / 5, so that any five reach sigma_2."""
    halves = [client(k, m, "fedmmkt-pate", {"secure": True, "sigma_2": 2.0}) for k, m in MANY.items()]
    for i, half in enumerate(halves):
        half.aside, half.voted = SimpleNamespace(threshold=5), i
    parts = np.array([half.noise((4000, CLASSES)) for half in halves])
    assert parts.std(axis=(1, 2)) == pytest.approx(2.0 / math.sqrt(5), rel=0.03)
    assert parts[:5].sum(0).std() == pytest.approx(2.0, rel=0.03)
    assert len({part.tobytes() for part in parts}) == len(parts)
    assert parts.sum(0).std() == pytest.approx(2.0 * math.sqrt(8 / 5), rel=0.03)


def test_no_single_vote_leaves(silent, tiny_generator):
    """Without noise even: what crosses is masked words, alike for any votes, and shares of keys that serve once."""
    up = {(row.verb, row.field.partition(".")[2]) for row in securely("fedmmkt-pate")}
    assert up == {
        ("open_sum", "public"),
        ("open_sum", "layout"),
        ("share_secrets", "names"),
        ("share_secrets", "sealed"),
        ("vote_masked", "words"),
        ("reveal", "names"),
        ("reveal", "shares"),
    }
    toy = pate(tiny_generator, MANY, secure=True)
    words = heard(toy, "vote_masked")
    toy.run(1)
    assert len(words) == len(MANY)
    for message in words.values():
        assert message.words.shape == (SAMPLES * CLASSES,)
        assert not {*message.words.tolist()} & {*to_fixed(np.array([0.0, 1.0])).tolist()}
        assert abs(message.words.astype(np.float64).mean() / 2.0**64 - 0.5) < 0.25


def test_in_the_clear_one_label_a_sample_leaves():
    up = {row.field for row in leaving("fedmmkt-pate") if row.verb not in ("evaluate", "train")}
    assert up == {"PateVotes.labels"}


def test_a_silo_keeps_its_own_book(tiny_generator, tmp_path):
    """What a client has voted on counts whatever state it is set back to, and ends at the budget."""
    toy = pate(tiny_generator, secure=True, sigma_2=4.0, epsilon=17.0, threshold=0.0)
    half = toy.half("image-0")
    half.context.book = tmp_path / "privacy" / "image-0.json"
    before = half.state()
    toy.run(1)
    file = tmp_path / "privacy" / "image-0.votes.json"
    assert read_book(file)[0] == [(4.0 / math.sqrt(2), 1.0, SAMPLES)]
    half.load_state(*before)
    assert half.voted == SAMPLES
    assert half.context.noise_stream("votes", 1).normal() != half.context.rng("votes", 1).normal()
    toy.server.budget.asked = 0  # a server that has forgotten
    half.voted = 400
    toy.run(1)
    assert "its budget of votes is spent, epsilon = 17.0, 400 samples" in toy.federation.missing[0].detail


# ------------------------------------------------------------------------------------------------------ whole runs

RUN = {
    "preset": "smoke",
    "method": "fedmmkt-pate",
    "clients": {"image": [{"arch": "resnet", "hidden": 8, "count": 3}], "text": []},
}


@pytest.mark.parametrize("secure", [False, True])
def test_engines_and_resumed_runs_agree_to_the_bit(secure, fedloom_cache, tmp_path, monkeypatch):
    settings = {
        "secure": secure,
        "private_steps": 1,
        "retrain_steps": 1,
        "tune_steps": 1,
        "samples": 6,
        "epsilon": 45.0,
    }
    whole, across = (
        fedloom.run(**RUN, rounds=2, settings=settings, engine={"workers": n}, out=tmp_path / str(n)) for n in (0, 2)
    )
    assert whole.rounds[-1]["vote_budget"]["refused"] > 0
    assert_equal(whole, across)
    server_round = PateServer.round

    def killed(self, federation):
        info = server_round(self, federation)
        if federation.round == 2:
            raise FedloomError("killed")
        return info

    with monkeypatch.context() as patch:
        patch.setattr(PateServer, "round", killed)
        with pytest.raises(FedloomError, match="killed"):
            fedloom.run(**RUN, rounds=2, settings=settings, engine={"workers": 0}, out=tmp_path / "part")
    assert_equal(whole, fedloom.run(resume=tmp_path / "part"))
