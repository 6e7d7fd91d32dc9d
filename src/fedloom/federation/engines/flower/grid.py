"""The server's side over Flower's Grid: silos join, answer envelopes, come and go."""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.codec import describe, encode
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.flower.records import pack_payloads
from fedloom.federation.engines.flower.transport import (
    LONGEST,
    SLOW,
    NotListed,
    Transport,
    check_name,
    pause_since,
    wait_for_nodes,
    words,
)
from fedloom.federation.engines.silo.envelopes import PROTOCOL, Envelope, Join
from fedloom.federation.engines.silo.store import RUN_NAME
from fedloom.federation.exchange import Arrival, Missing, Request
from fedloom.federation.host import Failure, Outcome
from fedloom.federation.ledger import Ledger
from fedloom.federation.messages import ContractBreach
from fedloom.tasks import CLIENT_TASKS

if TYPE_CHECKING:
    from flwr.app import ArrayRecord
    from flwr.serverapp import Grid

log = logging.getLogger(__name__)


class GridFederation(Federation):
    """Clients at silos that a Flower Grid reaches.

    expected: the clients the run was set up for, client -> modality, in their order; requests to those that never join
    are lost. Silos that join later add theirs. join: what is sent to each silo. At the start at least `silos` silos
    must join, each step within `patience` seconds; a round begins once `least` clients are connected.

    A silo is known by its node: what it answers counts for its own clients, and no two connected nodes may bring a
    client of the same name. Its clients are those that it was assigned in `join`; else the one of its own name, and
    those that the server's operator allows it by name. Raises FedloomError.
    """

    def __init__(
        self,
        grid: Grid,
        expected: Mapping[str, str],
        contract: WireContract,
        ledger: Ledger,
        *,
        run: str,
        join: Join,
        silos: int,
        least: int = 1,
        patience: float = 1800.0,
    ) -> None:
        super().__init__(expected, contract, ledger)
        self._transport = Transport(grid)
        self._run, self._patience, self._least = run, patience, least
        self._invitation = (encode(join),)
        self._assigned: dict[str, Any] | None = json.loads(join.assigned) if join.assigned else None
        self._silos: dict[int, str] = {}  # node -> its silo's name
        self._refused: set[int] = set()
        self._homes: dict[str, int] = {}  # client -> node
        self._notices: defaultdict[int, list[str]] = defaultdict(list)
        self._under_way: dict[str, tuple[int, list[Request]]] = {}
        self._arrivals: deque[Arrival] = deque()
        self._posted = time.monotonic()
        wait_for_nodes(self._transport, silos, patience)
        self.refresh_clients()
        if len(self._silos) < silos:
            reasons = "; ".join(m.detail for m in self.missing if m.verb == "join") or "no reason known"
            raise FedloomError(f"{len(self._silos)} of {silos} silos joined: {reasons}")

    def refresh_clients(self) -> None:
        """Lets new silos join, and waits until `least` clients are connected. Raises FedloomError when they do not."""
        end = time.monotonic() + self._patience
        while True:
            online = self._transport.nodes()
            self._invite([n for n in online if n not in self._silos and n not in self._refused], online)
            there = [client for client, node in self._homes.items() if node in online]
            if len(there) >= self._least or not self._silos:
                return
            if time.monotonic() >= end:
                raise FedloomError(
                    f"{len(there)} clients are connected after {self._patience:g} s, {self._least} needed"
                )
            time.sleep(SLOW)

    def conclude(self) -> None:
        """Tells the connected silos that the run is over, so that each exports its models."""
        there = [node for node in self._transport.nodes() if node in self._silos]
        envelope = Envelope({"op": "finish", "run": self._run})
        for node, answer in self._transport.exchange(dict.fromkeys(there, envelope), self._patience):
            if "failed" in answer.header:
                log.warning("silo %s at the end: %s", self._silos[node], words(answer.header["failed"]))

    def close(self) -> None:
        self._under_way.clear()
        self.ledger.close()

    def _invite(self, nodes: Sequence[int], online: Collection[int]) -> None:
        described = describe(self._invitation[0], Join, own=True)
        envelope = Envelope({"op": "join", "run": self._run, "protocol": PROTOCOL}, self._invitation)
        for node, answer in self._transport.exchange(dict.fromkeys(nodes, envelope), self._patience):
            silo = str(answer.header.get("silo", ""))
            silo = silo if RUN_NAME.fullmatch(silo) else f"node {node}"
            self._record(self.round, "down", silo, "join", self._invitation[0], described)
            try:
                self._welcome(node, silo, answer.header, online)
            except NotListed as breach:
                self._miss(Missing(self.round, "join", silo, "lost", str(breach)))
            except ContractBreach as breach:
                self._refused.add(node)
                self._miss(Missing(self.round, "join", silo, "refused", str(breach)))

    # --------------------------------------------------------------------------------------------- engine

    def _post(self, requests: Sequence[Request]) -> None:
        online = set(self._transport.nodes())
        by_node: defaultdict[int, list[Request]] = defaultdict(list)
        for r in requests:
            node = self._homes.get(r.client)
            if node in online:
                by_node[node].append(r)
            else:
                why = "its silo is not connected" if node is not None else "no silo has brought it yet"
                self._arrivals.append(_lost(r, why))
        shared: dict[tuple[int, ...], ArrayRecord] = {}
        envelopes = {}
        for node, asked in by_node.items():
            distinct = {id(r.payload): r.payload for r in asked}
            key = tuple(distinct)
            shared[key] = shared.get(key) or pack_payloads(tuple(distinct.values()))
            rows = [
                {
                    "client": r.client,
                    "verb": r.verb,
                    "round": r.round,
                    "key": r.key,
                    "payload": key.index(id(r.payload)),
                }
                for r in asked
            ]
            header = {"op": "ask", "run": self._run, "requests": rows, "notices": self._notices.pop(node, [])}
            envelopes[node] = (header, shared[key])
        for message, node in (self._transport.push(envelopes, str(self.round)) if envelopes else {}).items():
            self._under_way[message] = (node, by_node[node])
        self._posted = time.monotonic()

    def _collect(self, wait: float | None) -> Arrival | None:
        end = None if wait is None else time.monotonic() + wait
        while not self._arrivals and self._under_way:
            for message, envelope in self._transport.pull(self._under_way):
                if message in self._under_way:
                    self._open_envelope(*self._under_way.pop(message), envelope)
            left = None if end is None else end - time.monotonic()
            if self._arrivals or (left is not None and left <= 0):
                break
            pause = pause_since(self._posted)
            time.sleep(pause if left is None else min(pause, left))
        return self._arrivals.popleft() if self._arrivals else None

    def _save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Nothing to do: a silo keeps each state before it answers."""

    def _load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        envelope = Envelope({"op": "rewind", "run": self._run, "round": tag["round"]})
        failed = []
        for node, answer in self._transport.exchange(dict.fromkeys(self._silos, envelope), self._patience):
            if "failed" in answer.header:
                failed.append(words(answer.header["failed"]))
                self._miss(Missing(tag["round"], "rewind", self._silos[node], "lost", failed[-1]))
        if failed and len(failed) == len(self._silos):
            raise FedloomError(f"no silo can go back to the end of round {tag['round']}: {failed[0]}")

    def _same_clients(self, saved: Mapping[str, str]) -> bool:
        """Silos may have left or joined since: earlier clients are expected, new ones stay."""
        for client, modality in saved.items():
            self._modalities.setdefault(client, modality)
        return all(self._modalities[client] == modality for client, modality in saved.items())

    # ---------------------------------------------------------------------------------------------- silos

    def _welcome(self, node: int, silo: str, header: Mapping[str, Any], online: Collection[int]) -> None:
        """Registers the clients of a silo that joins. Raises ContractBreach when it cannot take part."""
        if "failed" in header:
            if header.get("lost"):  # it may be there at the next roll call
                self._miss(Missing(self.round, "join", silo, "lost", f"{silo}: {words(header['failed'])}"))
                return
            raise ContractBreach(f"{silo} cannot take part: {words(header['failed'])}")
        check_name(words(header.get("silo")), node, self._transport.admitted())
        clients = header.get("clients")
        if not isinstance(clients, dict) or not all(
            isinstance(k, str) and v in CLIENT_TASKS for k, v in clients.items()
        ):
            raise ContractBreach(f"{silo} brings no clients: {words(clients)[:100]}")
        own = self._its_own(silo)
        if foreign := [client for client in clients if client not in own]:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise ContractBreach(
                f"{silo} brings client {foreign[0][:60]!r}{more}, allowed: {', '.join(own[:9]) or 'none'}"
            )
        for client, modality in clients.items():
            if self._homes.get(client, node) != node and self._homes[client] in online:
                raise ContractBreach(f"{silo} brings client {client!r}, which {self._silos[self._homes[client]]} has")
            if self._modalities.setdefault(client, modality) != modality:
                raise ContractBreach(f"{silo} brings {client!r} of {modality}; it is one of {self._modalities[client]}")
        self._homes |= dict.fromkeys(clients, node)
        self._silos[node] = silo
        log.info("silo %s joined with %s", silo, ", ".join(f"{k} ({v})" for k, v in clients.items()))

    def _its_own(self, silo: str) -> list[str]:
        """The clients that a silo may bring."""
        if self._assigned is not None:
            return [str(spec["name"]) for spec in self._assigned.get(silo, ())]
        return [silo, *self._transport.more_clients(silo)]

    def _open_envelope(self, node: int, asked: Sequence[Request], envelope: Envelope) -> None:
        """Makes an arrival of each request that an envelope answers; the envelope can answer no others."""
        header, now, silo = envelope.header, time.monotonic(), self._silos.get(node, "")
        if (said := header.get("silo", silo)) != silo:
            why = f"silo {silo!r} answers as {words(said)[:60]!r}"
            header = {"failed": why, "fate": "refused"}
        if header.get("unjoined"):  # its disk is gone: let it join anew
            self._silos.pop(node, None)
        if "failed" in header:
            fate = header.get("fate", "lost" if header.get("lost") or header.get("unjoined") else "refused")
            error: Failure = fate if fate in ("raised", "lost", "refused") else "lost"
            outcome = Outcome(None, error, words(header["failed"]))
            self._arrivals.extend(Arrival(r.id, outcome, now) for r in asked)
            return
        rows = header.get("outcomes")
        if not isinstance(rows, list) or len(rows) != len(asked):
            rows = [None] * len(asked)
        self._arrivals.extend(Arrival(r.id, _outcome(r, row, envelope.payloads), now) for r, row in zip(asked, rows))

    def _miss(self, missing: Missing, trace: str = "") -> None:
        super()._miss(missing, trace)
        if missing.error == "refused" and (node := self._homes.get(missing.client)) is not None:
            said = f"round {missing.round}, {missing.verb} of {missing.client} was refused: {missing.detail}"
            self._notices[node].append(said[:LONGEST])


def _outcome(request: Request, row: Any, payloads: Sequence[bytes]) -> Outcome:
    """The outcome of a request from a silo's answer, which is untrusted."""
    if isinstance(row, dict) and (client := row.get("client", request.client)) != request.client:
        return Outcome(None, "refused", f"the answer is of client {words(client)[:60]!r}")
    if isinstance(row, dict) and (error := row.get("error")) in (None, "raised", "refused", "lost"):
        at, seconds = row.get("payload"), row.get("seconds")
        seconds = float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else 0.0
        if error is not None:
            return Outcome(None, error, words(row.get("detail")), seconds=seconds)
        if isinstance(at, int) and 0 <= at < len(payloads):
            return Outcome(payloads[at], seconds=seconds)
    return Outcome(None, "refused", "the answer is no outcome of what was asked")


def _lost(request: Request, why: str) -> Arrival:
    return Arrival(request.id, Outcome(None, "lost", why), time.monotonic())
