"""A server half that goes from peer to peer: whoever has it asks its neighbours, and hands it over to one of them.

What goes is its declared state, with what its generator has learned; pretrained weights every peer has. Of the
neighbours that are there it goes to the one that has not had it for longest. A host that goes away hands it over
before.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import numpy as np

from fedloom.errors import FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.codec import Described, ValueSize
from fedloom.federation.edges import deliver
from fedloom.methods.base import Info, Method, Server, ServerContext
from fedloom.methods.graph import PeerGraph
from fedloom.methods.state import Kept, State
from fedloom.strict_json import parse

HAND_OVER = "hand over"


class MovingServer(Server):
    """The method's server half, at one of the peers."""

    half: Kept[Server]
    host: Kept[str]  # "" before the first round
    hosted: Kept[dict[str, int]]  # peer -> the last round in which it was host

    def __init__(self, context: ServerContext, settings: Any, method: Method, graph: PeerGraph) -> None:
        super().__init__(context, settings)
        self.half, self.host, self.hosted = method.server(context, settings), "", {}
        self._graph = graph

    def round(self, federation: Federation) -> Info:
        """The method's round among the host and its neighbours; nothing where the half could go to nobody."""
        host = self.next_host(federation)
        if host is None:
            return Info()
        if self.host and host != self.host:
            self._hand_over(federation, host)
        self.host, self.hosted[host] = host, federation.round
        near = [k for k in federation.clients if k == host or k in self._graph.near[host]]
        with federation.among(near, federation.late), federation.held() as sent:
            info = self.half.round(federation)
        others = [k for k in near if k != host]
        deliver(federation.ledger, sent, dict.fromkeys(others, (host,)), others)
        return info

    def next_host(self, federation: Federation) -> str | None:
        """Who has the half this round, None where nobody can."""
        there = [k for k in self._graph.near if k in federation.clients and k not in federation.late]
        reached = [k for k in there if not self.host or k in self._graph.near[self.host]]
        if reached:
            return min(reached, key=lambda k: self.hosted.get(k, 0))  # the first of those
        return self.host if self.host in there else None

    def _hand_over(self, federation: Federation, host: str) -> None:
        """The half's state goes to `host`, which goes on from what has arrived. FedloomError where that differs."""
        payload = packed(self.half.state())
        told = digest(payload)
        federation.ledger.record(
            round=federation.round,
            direction="up",
            client=self.host,
            to=host,
            verb=HAND_OVER,
            payload=payload,
            described=Described("HostState", (ValueSize("state", "uint8", (len(payload),), len(payload)),)),
        )
        self.half.load_state(*unpacked(payload))
        if (found := digest(packed(self.half.state()))) != told:
            raise FedloomError(
                f"round {federation.round}: the state that {host} took over from {self.host} has the digest {found}, "
                f"expected {told}"
            )

    def embed(self, modality: Any, samples: Any) -> Any:
        """The half's."""
        return self.half.embed(modality, samples)

    def told(self) -> dict[str, float | str | None]:
        """What of the peers themselves a row of the run has."""
        return {"host": self.host or None}


def packed(state: State) -> bytes:
    """A state as bytes: how long its JSON is (8 bytes), the JSON, the arrays as a safetensors file."""
    from safetensors.numpy import save

    arrays, rest = state
    text = json.dumps(rest).encode()
    data: bytes = save({name: np.asarray(value, order="C") for name, value in arrays.items()})
    return len(text).to_bytes(8, "little") + text + data


def unpacked(payload: bytes) -> State:
    """What `packed` was given."""
    from safetensors.numpy import load

    end = 8 + int.from_bytes(payload[:8], "little")
    rest = parse(payload[8:end].decode(), finite=False, halves=True, own=True)
    return {name: array.copy() for name, array in load(payload[end:]).items()}, rest


def digest(payload: bytes) -> str:
    """By which the peer that takes over checks what it has."""
    return blake2b(payload, digest_size=16).hexdigest()
