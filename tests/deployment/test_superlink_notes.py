"""The server's notes of who is admitted beside Flower's own list of nodes, also after a crash between the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedloom.config.silo import HostSettings
from fedloom.deployment import pki
from fedloom.deployment.superlink import SuperLink
from fedloom.errors import FedloomError


class Ledger(SuperLink):
    """A host with Flower's own list of nodes in memory, as its SuperLink was seen to keep it."""

    def __init__(self, root: Path, known: dict[str, dict[str, str]], nodes: dict[str, tuple[str, str]]) -> None:
        self.heard, self.nodes = list[str](), nodes  # number -> (key, status)
        super().__init__(HostSettings(folder=str(root / "server"), pki=str(root / "pki"), port=0), self.heard.append)
        self.folder.mkdir()
        self._keep(known)

    def flwr(self, *words: str) -> dict[str, Any]:
        match words[1]:
            case "list":
                return {"nodes": [{"node-id": n, "status": status} for n, (_, status) in self.nodes.items()]}
            case "unregister":
                self.nodes[words[2]] = (self.nodes[words[2]][0], "unregistered")
                return {}
        key = Path(words[2]).read_text().strip()
        if key in {other for other, _ in self.nodes.values()}:
            raise FedloomError("flwr supernode register: [code: 23] Public key already in use.")
        self.nodes[str(len(self.nodes) + 100)] = (key, "registered")
        return {"node-id": len(self.nodes) + 99}

    def begin(self) -> dict[str, str]:
        """What a start does once the SuperLink answers; the silos then known, with their numbers."""
        self._reconcile()
        self.admit()
        return {name: entry["node"] for name, entry in self._nodes().items()}


@pytest.fixture
def two(tmp_path: Path) -> dict[str, str]:
    """The keys of the silos a and b."""
    pki.init(tmp_path / "pki", [])
    for name in "ab":
        pki.issue(tmp_path / "pki", name)
    return {holder.name: holder.key for holder in pki.listing(tmp_path / "pki")}


def test_a_note_that_a_crash_prevented_is_made_up_for(tmp_path: Path, two: dict[str, str]) -> None:
    """Killed between Flower's word that b is registered and our note of it; c came and went long ago."""
    nodes = {"1": (two["a"], "online"), "2": (two["b"], "registered"), "3": ("of c", "unregistered")}
    link = Ledger(tmp_path, {"a": {"key": two["a"], "node": "1"}}, nodes)
    assert link.begin() == {"a": "1", "b": "2"}
    pki.revoke(tmp_path / "pki", "b")
    link.admit()
    assert nodes["2"][1] == "unregistered"
    assert nodes["1"][1] == "online"


def test_when_all_notes_are_lost_the_remedy_is_told(tmp_path: Path, two: dict[str, str]) -> None:
    """Whose key a node has, Flower does not say: to guess could let a revoked silo stay."""
    nodes = {"1": (two["a"], "registered"), "2": (two["b"], "registered")}
    with pytest.raises(FedloomError, match=r"nodes\.json does not say which of 2 nodes .* are a, b; .* admitted again"):
        Ledger(tmp_path, {}, nodes).begin()
    assert [status for _, status in nodes.values()] == ["registered"] * 2  # to unregister would lock them out


def test_a_node_of_nobody_is_taken_out(tmp_path: Path, two: dict[str, str]) -> None:
    """Registered but not noted for a crash, and then revoked; or left from a time without keys."""
    nodes = {"1": (two["a"], "online"), "2": ("of one that was revoked", "registered")}
    link = Ledger(tmp_path, {"a": {"key": two["a"], "node": "1"}}, nodes)
    assert link.begin() == {"a": "1", "b": "102"}
    assert (nodes["1"][1], nodes["2"][1]) == ("online", "unregistered")


def test_when_flower_has_forgotten_all_are_admitted_anew(tmp_path: Path, two: dict[str, str]) -> None:
    known = {name: {"key": key, "node": str(i)} for i, (name, key) in enumerate(two.items())}
    assert Ledger(tmp_path, known, {}).begin() == {"a": "100", "b": "101"}


def test_each_admission_is_noted_before_the_next(tmp_path: Path, two: dict[str, str]) -> None:
    class Torn(Ledger):
        def flwr(self, *words: str) -> dict[str, Any]:
            if len(self.nodes) == 1:
                raise KeyboardInterrupt
            return super().flwr(*words)

    with pytest.raises(KeyboardInterrupt):
        Torn(tmp_path, {}, {}).begin()
    assert json.loads((tmp_path / "server" / "nodes.json").read_text()).keys() == {"a"}
