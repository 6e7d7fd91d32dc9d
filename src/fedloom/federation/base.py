"""The server's side: sends requests to clients and takes the replies as they arrive; the same for all engines.

An engine only sends encoded requests and returns what came back. A federation belongs to one thread.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fedloom.errors import BadInput, FedloomError, unknown
from fedloom.federation.codec import Described, encode
from fedloom.federation.contract import Direction, WireContract
from fedloom.federation.exchange import Arrival, Missing, Reply, Request
from fedloom.federation.host import Outcome
from fedloom.federation.ledger import Ledger
from fedloom.federation.messages import ContractBreach
from fedloom.runs.disk import read_object, write_atomic

log = logging.getLogger(__name__)
LATE = "too late, as its attendance says"  # no failure, so not in `missing`


@dataclass(eq=False)
class _Ask:
    """One call of `ask`: the replies outstanding (request id -> client) and those ready to be taken."""

    verb: str
    round: int
    begun: float
    deadline: float | None
    quorum: int
    waiting: dict[int, str]
    asked: int
    late: frozenset[str] = frozenset()  # whose answers are not used when they come
    ready: deque[Reply] = field(default_factory=deque)
    good: int = 0

    def over(self) -> str:
        """Why no more replies are awaited, or "" while they are."""
        if self.good >= self.quorum:
            return f"no reply before the quorum of {self.quorum} was reached"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return f"no reply within {self.deadline - self.begun:g} s"
        return ""


class Federation(ABC):
    """K clients that can be asked. `modalities`: client -> its kind of data.

    `round` is set by the round loop and travels with each request. `missing` collects every reply that
    failed.
    """

    def __init__(self, modalities: Mapping[str, str], contract: WireContract, ledger: Ledger) -> None:
        self.contract = contract
        self.ledger = ledger
        self.round = 0
        self.missing: list[Missing] = []
        self._modalities = dict(modalities)
        self._ids = itertools.count(1)
        self._ordinal = (0, 0)  # the round, and how many times it has asked
        self._open: dict[int, tuple[_Ask, str]] = {}
        self.heard: Callable[[str, int, int], None] | None = None  # told of verb, replies so far, clients asked
        self._among: frozenset[str] | None = None  # None: everybody
        self._late: frozenset[str] = frozenset()
        self._held: list[dict[str, Any]] | None = None

    @property
    def everybody(self) -> tuple[str, ...]:
        """All clients, whether they take part now or not."""
        return tuple(self._modalities)

    @property
    def clients(self) -> tuple[str, ...]:
        """Those that take part now."""
        return tuple(client for client in self._modalities if self._among is None or client in self._among)

    @contextmanager
    def among(self, clients: Collection[str], late: Collection[str] = ()) -> Iterator[None]:
        """Within it `clients` alone take part. Of those that are `late`, answers cross and come too late to be used."""
        before = self._among, self._late
        self._among, self._late = frozenset(clients), frozenset(late)
        try:
            yield
        finally:
            self._among, self._late = before

    @property
    def late(self) -> frozenset[str]:
        """Those that take part now and answer too late."""
        return self._late

    @contextmanager
    def held(self) -> Iterator[list[dict[str, Any]]]:
        """Within it messages are recorded in the list, not in the ledger: who gets them is seen later (`edges`)."""
        held: list[dict[str, Any]] = []
        self._held = held
        try:
            yield held
        finally:
            self._held = None

    def modality(self, client: str) -> str:
        """The kind of data a client has. Raises BadInput for a client that is not there."""
        if client not in self._modalities:
            raise unknown("client", client, self._modalities)
        return self._modalities[client]

    def clients_of(self, modality: str) -> tuple[str, ...]:
        """Those that take part now and have this kind of data; none is no error."""
        return tuple(client for client in self.clients if self._modalities[client] == modality)

    def ask(
        self, verb: str, message: Any, *, timeout: float | None = None, quorum: int | None = None
    ) -> Iterator[Reply]:
        """Asks all `clients` with one `message`, or those in a mapping {client: message}, each with its own.

        The requests are posted before this returns; the clients work whether or not the replies are iterated.
        Replies come as they are ready, each client exactly once. After `timeout` seconds since the call, or
        once `quorum` good replies have come and no more lie ready, each silent client yields a reply with
        error "timeout"; what it sends later is dropped. Raises ContractBreach for a message the contract does
        not declare, BadInput for an unknown client or an impossible limit. Where not everybody takes part, a larger
        quorum is that of all who do.
        """
        while self._pump(0.0):
            pass
        messages = message if isinstance(message, Mapping) else dict.fromkeys(self.clients, message)
        if self._among is not None and quorum is not None:
            quorum = min(quorum, len(messages)) or None
        if timeout is not None and not timeout > 0:
            raise BadInput(f"timeout is {timeout} seconds; it must be more than 0")
        if quorum is not None and not 1 <= quorum <= len(messages):
            raise BadInput(f"quorum is {quorum} of {len(messages)} clients asked; it must be 1 to {len(messages)}")
        requests = self._requests(verb, messages)
        begun = time.monotonic()
        ask = _Ask(
            verb=verb,
            round=self.round,
            begun=begun,
            deadline=None if timeout is None else begun + timeout,
            quorum=len(requests) if quorum is None else quorum,
            waiting={request.id: request.client for request in requests},
            asked=len(requests),
            late=self._late,
        )
        self._hear(ask)
        known: dict[int, Described] = {}
        for r in requests:
            self._open[r.id] = (ask, r.client)
            if id(r.payload) not in known:
                known[id(r.payload)] = self.contract.describe(verb, r.payload, "down", own=True)
            self._record(r.round, "down", r.client, verb, r.payload, known[id(r.payload)])
        try:
            self._post(requests)
        except BaseException:
            for r in requests:  # interrupted: nobody awaits these, so `settle` must not either
                self._open.pop(r.id, None)
            raise
        return self._replies(ask)

    def settle(self) -> None:
        """Waits until each reply due has come or is past its deadline, also of asks nobody iterates."""
        while due := dict.fromkeys(ask for ask, _ in self._open.values() if ask.waiting):
            for ask in due:
                self._advance(ask)

    def checkpoint(self, folder: Path | str) -> None:
        """Writes the state of every client into `folder`, after all work in flight. Raises FedloomError."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.settle()
        self._save(folder, {"round": self.round})
        record = {"round": self.round, "clients": self._modalities}
        write_atomic(folder / "federation.json", json.dumps(record, indent=1).encode())

    def restore(self, folder: Path | str) -> None:
        """Restores every client, and `round`, from what `checkpoint` wrote there. Raises FedloomError."""
        folder = Path(folder)
        try:
            record = read_object(folder / "federation.json")
            at, clients = record["round"], record["clients"]
            if type(at) is not int or not isinstance(clients, dict):
                raise ValueError("no round or no clients")
        except (FedloomError, ValueError, KeyError) as error:
            raise FedloomError(f"no federation checkpoint in {folder}: {error}") from error
        if not self._same_clients(clients):
            raise FedloomError(f"checkpoint {folder} is of clients {clients}; this federation has {self._modalities}")
        self.settle()
        self._load(folder, {"round": at})
        self.round = at

    def refresh_clients(self) -> None:
        """Updates `clients`, for engines whose clients come and go. Called between asks."""
        return None

    def conclude(self) -> None:
        """Tells the engine that the run is over; where clients keep their own models, they finish them."""
        return None

    def checkpoint_moved(self, folder: Path | str) -> None:
        """Tells the engine that the last checkpoint is now in `folder`, for restarting clients from it."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Ends every process and connection; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def _post(self, requests: Sequence[Request]) -> None:
        """Sends the requests. `_collect` later returns one arrival for each, also for a lost one."""

    @abstractmethod
    def _collect(self, wait: float | None) -> Arrival | None:
        """The next arrival, waited for at most `wait` seconds (None: as long as it takes)."""

    @abstractmethod
    def _save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Has each client saved into `folder`."""

    @abstractmethod
    def _load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Has each client loaded from `folder`."""

    def _same_clients(self, saved: Mapping[str, str]) -> bool:
        """Whether a checkpoint of these clients is one of this federation."""
        return saved == self._modalities

    def _requests(self, verb: str, messages: Mapping[str, Any]) -> list[Request]:
        """One request a client; a message given to several is checked and encoded once."""
        at, asked = self._ordinal
        self._ordinal = (self.round, asked + 1 if at == self.round else 1)
        encoded: dict[int, bytes] = {}
        requests = []
        for client, message in messages.items():
            self.modality(client)
            if self._among is not None and client not in self._among:
                raise BadInput(f"{client} takes no part in round {self.round}; ask those in `clients`")
            if id(message) not in encoded:
                self.contract.check(verb, message, "down")
                encoded[id(message)] = encode(message, self.contract.largest)
            key = str(self._ordinal[1])
            requests.append(Request(next(self._ids), client, verb, self.round, key, encoded[id(message)]))
        return requests

    def _replies(self, ask: _Ask) -> Iterator[Reply]:
        while ask.ready or ask.waiting:
            if ask.ready:
                yield ask.ready.popleft()
            else:
                self._advance(ask)

    def _advance(self, ask: _Ask) -> None:
        """Takes the next arrival, of any ask; once `ask` is over, all that are ready, and gives up the rest."""
        if reason := ask.over():
            while self._pump(0.0):
                pass
            now = time.monotonic()
            for client in ask.waiting.values():
                self._put(ask, client, Outcome(None, "timeout", reason, seconds=now - ask.begun))
            ask.waiting.clear()
        else:
            self._pump(None if ask.deadline is None else max(0.0, ask.deadline - time.monotonic()))

    def _pump(self, wait: float | None) -> bool:
        """Routes the next arrival to the ask it belongs to; False when none came within `wait` seconds."""
        arrival = self._collect(wait)
        if arrival is None:
            return False
        if arrival.id not in self._open:  # its ask was interrupted
            return True
        ask, client = self._open.pop(arrival.id)
        outcome, message = arrival.outcome, None
        if outcome.payload is not None:  # it did cross, also when it came too late to be used
            described = None
            try:
                message, described = self.contract.receive(ask.verb, outcome.payload, "up")
            except ContractBreach as breach:
                outcome = outcome._replace(error="refused", detail=str(breach))
            self._record(ask.round, "up", client, ask.verb, outcome.payload or b"", described, outcome.seconds)
        if ask.waiting.pop(arrival.id, None) is not None:
            if client in ask.late and outcome.error is None:
                outcome = Outcome(None, "timeout", LATE, seconds=outcome.seconds)
            elif ask.deadline is not None and arrival.arrived > ask.deadline:
                took, allowed = arrival.arrived - ask.begun, ask.deadline - ask.begun
                late = f"replied after {took:.3g} s, allowed {allowed:g} s"
                outcome = Outcome(None, "timeout", late, seconds=outcome.seconds)
            self._put(ask, client, outcome, message)
        return True

    def _record(
        self,
        round: int,
        direction: Direction,
        client: str,
        verb: str,
        payload: bytes,
        described: Described | None,
        seconds: float | None = None,
    ) -> None:
        row: dict[str, Any] = {"round": round, "direction": direction, "client": client, "verb": verb}
        row |= {"payload": payload, "described": described, "seconds": seconds}
        if self._held is None:
            self.ledger.record(**row)
        else:
            self._held.append(row)

    def _put(self, ask: _Ask, client: str, outcome: Outcome, message: Any = None) -> None:
        """Queues the reply of an outcome; a failure is also added to `missing`."""
        error, detail = outcome.error, outcome.detail
        if error is None:
            ask.good += 1
        elif detail is not LATE:
            self._miss(Missing(ask.round, ask.verb, client, error, detail), outcome.trace)
        reply = Reply(client, self.modality(client), ask.verb, ask.round, message, error, detail, outcome.seconds)
        ask.ready.append(reply)
        self._hear(ask)

    def _hear(self, ask: _Ask) -> None:
        if self.heard is not None:
            self.heard(ask.verb, ask.asked - len(ask.waiting), ask.asked)

    def reject(self, client: str, verb: str, why: str) -> None:
        """Moves a client whose reply was taken, but turns out not to fit, to `missing`."""
        self._miss(Missing(self.round, verb, client, "refused", why))

    def _miss(self, missing: Missing, trace: str = "") -> None:
        self.missing.append(missing)
        log.warning("round %d, %s: client %s %s: %s%s", *missing[:4], missing.detail, "\n" + trace if trace else "")
