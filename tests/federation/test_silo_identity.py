"""A silo answers only for the client that its key is registered for: who takes another's name, or many, is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from grid_silos import Silos
from toy_clients import CONTRACT, Wish
from toy_federations import words

from fedloom.config.silo import HostSettings
from fedloom.config.trees import validate
from fedloom.deployment.server_app import NamedGrid
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.engines.flower.records import pack, pack_payloads, unpack
from fedloom.federation.engines.silo.envelopes import Join
from fedloom.federation.engines.silo.host import Recipe

OWN = {
    "join": Join(json.dumps(CONTRACT.to_names()), "", '{"seed": 3}', {}),
    "silos": 2,
}


def prepare(offer: dict[str, Any], files: dict[str, Any], folder: Path) -> Any:
    return CONTRACT


def own_client(*, name: str, offer: dict[str, Any], public: str, warm: bool) -> Any:
    from toy_clients import make

    return make(name)


@pytest.fixture
def sites(tmp_path: Path) -> Silos:
    """Two silos with clients of their own, silo-0 at node 11 and silo-1 at node 12."""
    recipe = Recipe("image", "test_silo_identity:prepare", "test_silo_identity:own_client", {}, {})
    return Silos(tmp_path, 2, names=(), recipe=recipe)


def lie(sites: Silos, change: Callable[[dict[str, Any]], dict[str, Any]], at: int = 12) -> None:
    """The silo at a node says something else."""

    def tamper(node: int, reply: Message) -> Message:
        letter = unpack(reply.content)
        if node != at or "clients" not in letter.header:
            return reply
        changed = {**letter.header, **change(letter.header)}
        return Message(pack(changed, pack_payloads(letter.payloads)), reply_to=sites.grid.pushed[-1])

    sites.grid.tamper = tamper


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"clients": {"silo-0": "image"}}, r"silo-1 brings client 'silo-0', allowed: silo-1"),
        ({"clients": {f"c{i}": "image" for i in range(500)}}, r"'c0' and 499 more, allowed: silo-1"),
        ({"clients": {"silo-1": "image", "../../up": "image"}}, r"brings client '../../up', allowed: silo-1"),
        (
            {"clients": {"a\x1b[2J": "image"}},
            r"node 12 cannot take part: .* a text holds the control character '\\x1b'",
        ),
        ({"clients": {"x" * 500: "image"}}, r"brings client 'x{60}', allowed"),
        ({"silo": "../../up"}, r"silo '../../up', allowed: at most 128 letters"),
        ({"silo": ["a"]}, r"allowed: at most 128 letters"),
        ({"silo": "silo-0", "clients": {"silo-0": "image"}}, r"silo-0 brings client 'silo-0', which silo-0 has"),
    ],
)
def test_a_silo_brings_the_client_of_its_own_name(sites: Silos, said: dict[str, Any], told: str) -> None:
    lie(sites, lambda header: said)
    with pytest.raises(FedloomError, match=told) as error:
        sites.federation(**OWN)
    assert str(error.value).isprintable()
    lie(sites, lambda header: {})
    with sites.federation(**OWN) as f:
        assert words(f.ask("retrain", Wish(""))) == {"silo-0": "silo-0 0 1", "silo-1": "silo-1 0 1"}


class Listed:
    """The server's files about its silos, and the Grid that reads them."""

    def __init__(self, sites: Silos, server: Path, **more: Any) -> None:
        nodes = {f"silo-{i}": {"key": "k", "node": str(11 + i)} for i in range(2)}
        (server / "nodes.json").write_text(json.dumps(nodes))
        (server / "host.json").write_text(json.dumps({"address": "127.0.0.1:9", "pki": "pki", **more}))
        sites.grid, self.grid = NamedGrid(sites.grid, server), sites.grid  # type: ignore[assignment]


def test_the_name_of_a_silo_that_is_away_is_not_free(sites: Silos, tmp_path: Path) -> None:
    """Whose key a node has is the server's knowledge, not the silo's word."""
    inner = Listed(sites, tmp_path).grid
    inner.offline = {11}

    def as_the_other(node: int, reply: Message) -> Message:
        header = {**unpack(reply.content).header, "silo": "silo-0", "clients": {"silo-0": "image"}}
        return Message(pack(header, pack_payloads(())), reply_to=inner.pushed[-1])

    inner.tamper = as_the_other
    with pytest.raises(FedloomError, match="'silo-0' has the key of 'silo-1', and can only take part as 'silo-1'"):
        sites.federation(**{**OWN, "silos": 1})


def test_a_key_that_is_not_on_the_list_waits(sites: Silos, tmp_path: Path) -> None:
    Listed(sites, tmp_path)
    (tmp_path / "nodes.json").write_text(json.dumps({"silo-0": {"key": "k", "node": "11"}}))
    with sites.federation(**{**OWN, "silos": 1}) as f:
        assert f.clients == ("silo-0",)
        assert f.missing[-1].detail == "silo 'silo-1' has a key that is not on the server's list"
        Listed.__init__(object.__new__(Listed), sites, tmp_path)
        f.refresh_clients()
        assert f.clients == ("silo-0", "silo-1")


def test_the_operator_allows_more_clients_by_name(sites: Silos, tmp_path: Path, caplog: Any) -> None:
    allowed = validate(HostSettings, {"clients": {"silo-1": ["ward-1"]}}).clients
    inner = Listed(sites, tmp_path, clients=allowed).grid

    def two(header: dict[str, Any]) -> dict[str, Any]:
        return {"clients": {**header["clients"], "ward-1": "text"}}

    sites.grid, kept = inner, sites.grid
    lie(sites, two)
    sites.grid = kept
    with caplog.at_level(logging.INFO), sites.federation(**OWN) as f:
        assert f.clients == ("silo-0", "silo-1", "ward-1")
    lie_again = sites.grid
    sites.grid = inner
    lie(sites, two, at=11)
    sites.grid = lie_again
    with pytest.raises(FedloomError, match="silo-0 brings client 'ward-1', allowed: silo-0"):
        sites.federation(**OWN)
    with pytest.raises(BadInput, match="expected at most 128 letters"):
        validate(HostSettings, {"clients": {"silo-1": ["../up"]}})


def test_assigned_clients_are_those_of_the_silo(silos: Silos) -> None:
    """Where the server's own process deals clients out, none brings another's either."""
    lie(silos, lambda header: {"clients": {"image-0": "image"}})  # of silo-0, which is at node 11
    with pytest.raises(FedloomError, match="silo-1 brings client 'image-0', allowed: image-1"):
        silos.federation()
