"""Envelopes to silos and back, over Flower's Grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedloom.errors import FedloomError, printable
from fedloom.federation.engines.flower.records import pack, pack_payloads, unpack
from fedloom.federation.engines.silo.envelopes import PROTOCOL, Envelope
from fedloom.federation.engines.silo.store import RUN_NAME
from fedloom.federation.host import Failure
from fedloom.federation.messages import ContractBreach

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Message
    from flwr.serverapp import Grid

log = logging.getLogger(__name__)

_TTL = 7 * 24 * 3600.0  # seconds a message may wait for its silo; `timeout` is what bounds a round
QUICK, STEADY, SLOW = 0.02, 0.1, 0.5  # seconds between looks for replies: at first, soon, late
LONGEST = 500  # characters of a silo's own words that are kept
_FATES: Mapping[int, tuple[Failure, str]] = {
    1: ("lost", "its ClientApp cannot be loaded"),
    2: ("raised", "its ClientApp raised"),
    3: ("lost", "the message expired before the silo took it"),
    4: ("lost", "the reply expired"),
    5: ("lost", "the silo is gone: no sign of life"),
    6: ("refused", "the silo does not take such messages"),
    7: ("refused", "the silo does not trust the app"),
    8: ("lost", "its ClientApp crashed"),
}


class Transport:
    """Envelopes to nodes and back, over a Grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def nodes(self) -> list[int]:
        """The nodes that are connected. Raises FedloomError when the SuperLink does not answer."""
        return sorted(self._call(self._grid.get_node_ids))

    def admitted(self) -> dict[int, str] | None:
        """Node -> the silo whose key it has, by the server's list (`silo_names` of its grid); None: it keeps none."""
        names: Callable[[], dict[int, str] | None] | None = getattr(self._grid, "silo_names", None)
        return names() if names is not None else None

    def more_clients(self, silo: str) -> Collection[str]:
        """The clients that a silo may bring besides the one of its own name, as the server's operator says."""
        allowed: Callable[[], dict[str, Collection[str]]] | None = getattr(self._grid, "more_clients", None)
        return allowed().get(silo, ()) if allowed is not None else ()

    def push(self, envelopes: Mapping[int, tuple[dict[str, Any], ArrayRecord]], group: str) -> dict[str, int]:
        """Posts an envelope to each node; message id -> node."""
        from flwr.app import Message

        nodes = list(envelopes)
        messages = [Message(pack(*envelopes[n]), n, "query", ttl=_TTL, group_id=group) for n in nodes]
        ids = list(self._call(self._grid.push_messages, messages))
        if len(ids) != len(nodes) or None in ids:
            raise FedloomError(f"the SuperLink took {len([i for i in ids if i])} of {len(nodes)} messages")
        return dict(zip(ids, nodes))

    def pull(self, ids: Collection[str]) -> list[tuple[str, Envelope]]:
        """The answers that have come: (id of the message answered, envelope)."""
        found = self._call(self._grid.pull_messages, list(ids)) if ids else []
        return [(m.metadata.reply_to_message_id, _read(m)) for m in found]

    def exchange(self, envelopes: Mapping[int, Envelope], patience: float) -> Iterator[tuple[int, Envelope]]:
        """Each node's answer as it comes; one that `failed` for a node that is silent for `patience` seconds."""
        shared: dict[int, ArrayRecord] = {}
        packed = {}
        for node, envelope in envelopes.items():
            key = id(envelope.payloads)
            shared[key] = shared.get(key) or pack_payloads(envelope.payloads)
            packed[node] = (envelope.header, shared[key])
        due = self.push(packed, "fedloom") if packed else {}
        begun = time.monotonic()
        while due and time.monotonic() < begun + patience:
            for answered, envelope in self.pull(due):
                if answered in due:
                    yield due.pop(answered), envelope
            if due:
                time.sleep(pause_since(begun))
        for node in due.values():
            yield node, Envelope({"failed": f"no answer within {patience:g} s", "lost": True})

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (OSError, ConnectionError, RuntimeError) as error:
            raise FedloomError(f"the SuperLink does not answer: {type(error).__name__} {error}") from error


def _read(message: Message) -> Envelope:
    if message.has_error():
        fate, words = _FATES.get(message.error.code, ("lost", f"Flower's error {message.error.code}"))
        log.info("Flower on node %d: %s", message.metadata.src_node_id, message.error.reason)
        return Envelope({"failed": words, "fate": fate})
    try:
        return unpack(message.content)
    except ContractBreach as breach:
        return Envelope({"failed": str(breach), "fate": "refused"})


def pause_since(begun: float) -> float:
    """Seconds to the next look for replies to envelopes posted at `begun` (time.monotonic())."""
    waited = time.monotonic() - begun  # a look is late by a tenth of that at most, and by 3 % of what is long
    return min(SLOW, max(QUICK, min(STEADY, waited / 10), 0.03 * waited))


def wait_for_nodes(transport: Transport, silos: int, patience: float) -> list[int]:
    """The connected nodes, once there are at least `silos`. Raises FedloomError when they do not come in time."""
    end = time.monotonic() + patience
    while len(nodes := transport.nodes()) < silos:
        if time.monotonic() >= end:
            raise FedloomError(f"{len(nodes)} of {silos} silos are connected after {patience:g} s")
        time.sleep(SLOW)
    return nodes


def hello(transport: Transport, nodes: Collection[int], patience: float) -> dict[int, dict[str, Any]]:
    """Each node's description of its silo; those that do not answer, or in another protocol, are left out."""
    found = {}
    envelope = Envelope({"op": "hello"})
    for node, answer in transport.exchange(dict.fromkeys(nodes, envelope), patience):
        header = answer.header
        if "failed" in header:
            log.warning("node %d: %s", node, words(header["failed"]))
        elif header.get("protocol") != PROTOCOL:
            said = f"protocol {words(header.get('protocol'))} (fedloom {words(header.get('version'))})"
            log.warning("node %d speaks %s; this server speaks %d", node, said, PROTOCOL)
        else:
            found[node] = header
    return found


class NotListed(ContractBreach):
    """The server's list does not say whose key a node has; it may at the next look."""


def check_name(silo: str, node: int, admitted: Mapping[int, str] | None) -> None:
    """Raises ContractBreach for what is no name, or another one than the silo's key was issued for; NotListed."""
    if not RUN_NAME.fullmatch(silo):
        raise ContractBreach(f"silo {silo[:60]!r}, allowed: at most 128 letters, digits, '_', '-', '.'")
    if admitted is None:
        return
    if node not in admitted:
        raise NotListed(f"silo {silo!r} has a key that is not on the server's list")
    if silo != admitted[node]:
        known = admitted[node]
        raise ContractBreach(f"silo {silo!r} has the key of {known!r}, and can only take part as {known!r}")


def words(said: Any) -> str:
    """Text from a silo as one line of bounded length."""
    return printable(" ".join(str(said).split()))[:LONGEST]
