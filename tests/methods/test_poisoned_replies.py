"""One reply must not kill a cohort: values of 1e20, 1e6, NaN, claims of a billion samples, classes by the million."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from fedmbridge_toys import toy_of
from toy_sites import CLIENTS, PAIRS, WIDTH, Toy, same

from fedloom.errors import BadInput
from fedloom.federation import codec
from fedloom.federation.codec import encode
from fedloom.methods.fedavg import FedAvgUpdate
from fedloom.methods.retrieval_messages import Views
from fedloom.methods.sound import repeatable, weighed, without_faults

METHODS = ("fedavg", "scaffold", "fedproto", "fedmd", "fedmekt", "creamfl", "fedmmkt", "fedgems", "fed-et", "disentafl")
ATTACKER, ROUNDS = "image-1", 3
HONEST = set(CLIENTS) - {ATTACKER}


@contextmanager
def poisoned(federation: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """What ATTACKER replies arrives as `change` makes it: its own end has no say in that."""
    collect = federation._collect

    def changed(wait: float | None) -> Any:
        arrival = collect(wait)
        ask, client = federation._open.get(getattr(arrival, "id", None), (None, ""))
        if client == ATTACKER and arrival.outcome.payload is not None and ask.verb != "evaluate":
            message = codec.decode(arrival.outcome.payload, federation.contract.types(ask.verb, "up"))
            arrival = arrival._replace(outcome=arrival.outcome._replace(payload=encode(change(message))))
        return arrival

    federation._collect = changed
    yield
    del federation._collect


def filled(value: float) -> Callable[[Any], Any]:
    """All numbers with a fraction are `value`."""

    def change(message: Any) -> Any:
        def one(found: Any) -> Any:
            if isinstance(found, Mapping):
                return {k: one(v) for k, v in found.items()}
            if isinstance(found, np.ndarray) and found.dtype.kind == "f":
                return np.full_like(found, value)
            return found

        return replace(message, **{f.name: one(getattr(message, f.name)) for f in fields(message)})

    return change


def run(toy: Toy, change: Callable[[Any], Any]) -> list[Any]:
    with poisoned(toy.federation, change):
        return toy.run(ROUNDS)


@pytest.mark.parametrize(
    ("method", "value"), [(m, v) for m in METHODS for v in (1e20, 1e6)] + [("fedavg", -1e6), ("fedmmkt", np.nan)]
)
def test_no_honest_client_dies_of_one_reply(method: str, value: float, tiny_generator: Any) -> None:
    toy = Toy(tiny_generator, method)
    infos = run(toy, filled(value))
    assert {m.client for m in toy.federation.missing} <= {ATTACKER}
    assert all(np.isfinite(v) for info in infos for v in info.losses.values() if v is not None)
    for name in HONEST:
        assert all(np.isfinite(v).all() for v in toy.clients()[name].values() if v.dtype.kind == "f"), name


@pytest.mark.parametrize("claims", [(2**31 - 1, 1, 1), (1, 2**31 - 1, 1)])
def test_claims_of_samples_do_not_make_a_control_variate_explode(claims: Any, tiny_generator: Any) -> None:
    """c is a mean over all that were ever heard of: who claims a billion samples once and one after would scale it."""
    toy = Toy(tiny_generator, "scaffold")
    told = iter(claims)
    run(toy, lambda message: replace(filled(1e6)(message), samples=next(told)))
    missing = toy.federation.missing
    assert {m.client for m in missing} == {ATTACKER}
    assert missing[-1].detail.startswith(
        "its reply spoils what all are sent: verb 'fit' down: ScaffoldTargets.control["
    )


def test_shapes_that_do_not_fit_end_no_run(tiny_generator: Any) -> None:
    """Prototypes of another width, which could not be averaged with the others'."""
    toy = Toy(tiny_generator, "fedproto")
    run(toy, lambda m: replace(m, prototypes={k: np.zeros((len(v), 3), np.float32) for k, v in m.prototypes.items()}))
    assert {m.client for m in toy.federation.missing} == {ATTACKER}


def test_a_class_beyond_all_is_no_memory_of_everybody(tiny_generator: Any) -> None:
    toy = Toy(tiny_generator, "fedproto")
    run(toy, lambda m: replace(m, classes={k: np.full_like(v, 2**31 - 1) for k, v in m.classes.items()}))
    assert {m.client for m in toy.federation.missing} == {ATTACKER}


@pytest.mark.parametrize("method", ["r-fedmd", "r-creamfl", "fedafd"])
def test_views_that_spoil_what_is_believed_are_left_out(method: str) -> None:
    """Whatever makes an ensemble overflow: the server learns of the others what it would have learned without it."""
    clients, far = {f"image-{i}": "image" for i in range(3)}, 1e6
    toys = [Toy(None, method, clients=clients) for _ in range(2)]
    views = {
        k: Views(toys[0].server.name, 0.0, np.random.default_rng(i).normal(size=(PAIRS, WIDTH)).astype(np.float32))
        for i, k in enumerate(clients)
    }
    rest, spoiling = views.copy(), np.full((PAIRS, WIDTH), far, np.float32)
    del rest[ATTACKER]
    views[ATTACKER] = replace(views[ATTACKER], image=spoiling)
    for toy, said in zip(toys, (views, rest)):
        believed = toy.server.ensemble

        def overflowing(m: Any, z: Any, present: Any, bank: Any, believed: Any = believed) -> Any:
            of_attacker = (z == z[..., :1]).all(-1).all(-1).any()  # all rows point one way
            found, entropy = believed(m, z, present, bank)
            return (found * np.inf if of_attacker else found), entropy

        toy.server.ensemble = overflowing
        toy.told = toy.server.distil(1, toy.federation, said, toy.server.bank())
    spoilt, without = toys
    assert [(m.client, m.verb) for m in spoilt.federation.missing] == [(ATTACKER, "learn")]
    assert "what clients say of images is not finite together" in spoilt.federation.missing[0].detail
    assert spoilt.told == without.told
    assert same(spoilt.server.state()[0], without.server.state()[0])


def test_a_step_that_leaves_nobody_adapters_that_can_be_sent_is_undone(tiny_generator: Any) -> None:
    """FedMBridge makes everybody's adapters of everybody's training: one reply made them infinite for all."""
    toy, without = toy_of(tiny_generator), toy_of(tiny_generator)
    run(toy, filled(1e6))
    assert {m.client for m in toy.federation.missing} == {ATTACKER}
    assert "its reply spoils what all are sent: verb 'fit' down: FedMBridgeAdapters.values" in (
        toy.federation.missing[0].detail
    )
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values())
    without.half(ATTACKER).fit = raising
    without.run(ROUNDS)
    assert same(toy.server.state()[0], without.server.state()[0])


def raising(message: Any, *, round: int) -> Any:
    raise ValueError("out of memory")


def test_claims_are_clamped_or_ignored() -> None:
    said = {k: FedAvgUpdate({}, n, 0.0) for k, n in {"a": 10, "b": 20, "c": 30, "liar": 2**31 - 1}.items()}
    assert weighed(said, "samples") == said
    assert {k: u.samples for k, u in weighed(said, "clamped").items()} == {"a": 10, "b": 20, "c": 30, "liar": 50}
    assert {u.samples for u in weighed(said, "equal").values()} == {1}
    assert weighed({}, "clamped") == {}


@pytest.mark.parametrize(("weighting", "near"), [("samples", 1000.0), ("clamped", 400.0), ("equal", 250.0)])
def test_a_billion_samples_of_one(weighting: str, near: float, tiny_generator: Any) -> None:
    toy = Toy(None, "fedavg", {f"image-{i}": "image" for i in range(4)}, weighting=weighting)

    def change(message: Any) -> Any:
        return replace(filled(1000.0)(message), samples=2**31 - 1)

    with poisoned(toy.federation, change):
        toy.run(1)
    (average,) = toy.server.groups.values()
    assert float(np.mean(average["head.bias"])) == pytest.approx(near, abs=1)


# ----------------------------------------------------------------------------------------------- who is to blame


class Rejecting:
    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def reject(self, client: str, verb: str, why: str) -> None:
        self.told[client] = why


def total(replies: Mapping[str, float]) -> float:
    found = sum(replies.values())
    if not abs(found) < 100 or any(v == 13 for v in replies.values()):
        raise BadInput(f"{found} is\ntoo much")
    return found


@pytest.mark.parametrize(
    ("replies", "found", "blamed"),
    [
        ({"a": 1.0, "b": 2.0}, 3.0, []),
        ({"a": 1.0, "b": 1e9, "c": 13.0}, 1.0, ["b", "c"]),  # each fails alone
        ({"a": 60.0, "b": 60.0, "c": 1.0}, 61.0, ["a"]),  # none does; without one of them they do not
        ({}, 0.0, []),
    ],
)
def test_who_is_to_blame(replies: Any, found: float, blamed: list[str]) -> None:
    federation: Any = Rejecting()
    assert without_faults(federation, "fit", replies, total) == found
    assert sorted(federation.told) == blamed
    assert all("\n" not in line for line in federation.told.values())


def test_a_fault_of_nobody_is_raised() -> None:
    federation: Any = Rejecting()
    for replies in ({"a": 13.0}, {"a": 13.0, "b": 13.0, "c": 13.0}):
        with pytest.raises(BadInput, match="too much"):
            without_faults(federation, "fit", replies, total)
    assert federation.told == {}


def test_each_try_begins_as_the_first() -> None:
    class Server:
        def __init__(self) -> None:
            self.sums, self.count = {"k": {"x": 0.0}}, 0

    server, federation = Server(), Rejecting()

    def work(replies: Mapping[str, float]) -> float:
        server.count += 1
        server.sums["k"]["x"] += total(replies)
        return server.sums["k"]["x"]

    again = repeatable(work, server)
    assert without_faults(federation, "fit", {"a": 1.0, "b": 13.0}, again) == 1.0  # type: ignore[arg-type]
    assert (server.sums, server.count) == ({"k": {"x": 1.0}}, 1)
