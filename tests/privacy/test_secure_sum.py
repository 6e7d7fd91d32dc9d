"""Sums of vectors that nobody sees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fedloom.errors import BadInput, FedloomError
from fedloom.privacy.secure_sum import (
    PUBLIC_BYTES,
    REVEALED_BYTES,
    SEALED_BYTES,
    Party,
    check_installed,
    from_fixed,
    stream,
    threshold_of,
    to_fixed,
    unmasked,
)

VECTORS = {name: np.random.default_rng(n).normal(0, 3, 40) for n, name in enumerate("dacbe")}


def summed(names: str, lost_before: str = "", lost_after: str = "") -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The sum by the protocol, and what the server has seen; who is lost before it sends its vector, and after."""
    parties = {name: Party(name) for name in names}
    publics = {name: party.public for name, party in parties.items()}
    assert {len(key) for key in publics.values()} == {PUBLIC_BYTES}
    sealed = {name: party.shares(publics, threshold_of(len(names))) for name, party in parties.items()}
    assert {len(s) for given in sealed.values() for s in given.values()} == {SEALED_BYTES}
    for_each = {to: {who: given[to] for who, given in sealed.items() if to in given} for to in names}
    masked = {
        name: party.masked(to_fixed(VECTORS[name]), for_each[name])
        for name, party in parties.items()
        if name not in lost_before
    }
    revealed = {name: parties[name].reveal(list(masked)) for name in masked if name not in lost_after}
    assert {len(s) for given in revealed.values() for s in given.values()} == {REVEALED_BYTES}
    return from_fixed(unmasked(masked, revealed, publics, threshold_of(len(names)))), masked


@pytest.mark.parametrize("names", ["da", "dac", "dacbe"])
def test_the_sum(names: str) -> None:
    found, masked = summed(names)
    assert np.allclose(found, sum(VECTORS[name] for name in names), atol=1e-6)
    for name, seen in masked.items():  # one's own vector cannot be told from what was sent
        assert not np.allclose(from_fixed(seen), VECTORS[name], atol=1e6)


@pytest.mark.parametrize(("before", "after"), [("d", ""), ("", "d"), ("b", "e"), ("de", "")])
def test_who_is_lost_is_left_out(before: str, after: str) -> None:
    found, _ = summed("dacbe", before, after)
    assert np.allclose(found, sum(v for name, v in VECTORS.items() if name not in before), atol=1e-6)


def test_too_few_are_left() -> None:
    with pytest.raises(BadInput, match="3 senders or more"):
        summed("dacbe", "dac")
    with pytest.raises(FedloomError, match="needs 3 shares of 'a', and has 2"):
        summed("dacbe", "d", "ac")
    with pytest.raises(BadInput, match="sum of 1 party"):
        summed("d")


def test_what_a_party_refuses() -> None:
    """To be asked twice, which would give key and seed of one party; a threshold that a minority could meet."""
    parties = {name: Party(name) for name in "abc"}
    publics = {name: party.public for name, party in parties.items()}
    for threshold in (1, 4):
        with pytest.raises(BadInput, match=f"threshold {threshold} is refused"):
            parties["a"].shares(publics, threshold)
    with pytest.raises(BadInput, match="refused"):
        parties["a"].shares({**publics, "a": publics["b"]}, 2)
    sealed = {name: party.shares(publics, 2) for name, party in parties.items()}
    vector = to_fixed(VECTORS["a"])
    with pytest.raises(FedloomError, match="shares from 'b' for 'a' cannot be opened"):
        parties["a"].masked(vector, {"b": sealed["c"]["a"]})
    with pytest.raises(FedloomError, match="1 of 3 parties left"):
        parties["a"].masked(vector, {})
    parties["a"].masked(vector, {name: sealed[name]["a"] for name in "bc"})
    with pytest.raises(BadInput, match="2 senders or more"):
        parties["a"].reveal(["a"])
    given = parties["a"].reveal(["a", "b"])
    assert given.keys() == {"a", "b", "c"}
    with pytest.raises(BadInput, match="reveals shares once"):
        parties["a"].reveal(["a", "c"])


def test_fewer_shares_than_the_threshold_say_nothing() -> None:
    """Any two of three parties' shares make the seed; one alone does not."""
    parties = {name: Party(name) for name in "abc"}
    publics = {name: party.public for name, party in parties.items()}
    sealed = {name: party.shares(publics, 2) for name, party in parties.items()}
    masked = {
        name: party.masked(to_fixed(VECTORS[name]), {w: s[name] for w, s in sealed.items() if w != name})
        for name, party in parties.items()
    }
    revealed = {name: party.reveal(list(masked)) for name, party in parties.items()}
    whole = sum(VECTORS[name] for name in "abc")
    for pair in itertools.combinations("abc", 2):
        found = unmasked(masked, {name: revealed[name] for name in pair}, publics, 2)
        assert np.allclose(from_fixed(found), whole, atol=1e-6)
    with pytest.raises(FedloomError, match="needs 2 shares"):
        unmasked(masked, {"a": revealed["a"]}, publics, 2)


def test_fixed_point() -> None:
    numbers = np.array([0.0, 1.5, -1.5, 2.0**-24, -(2.0**30), 3e-9])
    assert from_fixed(to_fixed(numbers)).tolist() == [0.0, 1.5, -1.5, 2.0**-24, -(2.0**30), 0.0]
    for bad in (np.inf, np.nan, 2.0**31):
        with pytest.raises(BadInput, match=r"value of a secure sum is .*allowed: less than 2\.14748e\+09"):
            to_fixed(np.array([0.0, bad]))


def test_masks_are_uniform_and_repeat() -> None:
    words = stream(bytes(32), 4000)
    assert words[0].tobytes().hex() == "dc95c078a2408989"  # AES-256 of zeros under a key of zeros
    assert np.array_equal(words, stream(bytes(32), 4000))
    assert abs(words.astype(np.float64).mean() / 2.0**64 - 0.5) < 0.02
    assert stream(b"a" * 32, 1) != stream(b"b" * 32, 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("fedloom.privacy.secure_sum.find_spec", lambda name: None if name == "flwr" else object())
    with pytest.raises(BadInput, match=r"need flwr, which is not installed: pip install 'fedloom\[flower\]'"):
        check_installed()
