"""The clients of one silo, resident: built once a run, asked by envelope, on disk before they answer.

A reply leaves only after the state that goes with it is kept, so a silo that dies at any moment comes back as it was
before a request or as it was after it; in the second case a repeated request gets the reply that is on record.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from fedloom import __version__
from fedloom.config.bounds import RoundBounds, RunBounds, SiloBounds
from fedloom.errors import FedloomError
from fedloom.federation.codec import Described, decode
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.silo.envelopes import PROTOCOL, Envelope, Join
from fedloom.federation.engines.silo.gate import BEYOND, SiloGate
from fedloom.federation.engines.silo.store import SPENT, Record, SiloStore, StateId, put_aside
from fedloom.federation.host import ClientHost, ClientSpec, Outcome, Received, Snapshot, load_function, one_line
from fedloom.federation.ledger import Ledger
from fedloom.federation.messages import BoundBreach, ContractBreach
from fedloom.strict_json import parse

log = logging.getLogger(__name__)

RUNS_KEPT = 8
_ANY = {"steps": None, "seconds": None, "bytes_up": None, "samples": None, "queries": None}
NO_BOUNDS = SiloBounds(
    round=RoundBounds(**_ANY), run=RunBounds(**_ANY), batch=1, public_bytes=None, parameters=None, delete_exports=True
)


class Recipe(NamedTuple):
    """How a silo makes its own client, whatever a server says: names of functions, "package.module:function".

    prepare(offer, public files, folder for them) gives the wire contract of what is offered, or raises FedloomError.
    factory(name=..., offer=..., public=that folder, warm=whether it starts from nothing, **arguments) gives the client.
    about: what the silo tells of itself before it joins.
    check(offer, **arguments) raises BoundBreach for an offer beyond the silo's bounds, before anything of it is used;
    "": none is.
    """

    modality: str
    prepare: str
    factory: str
    arguments: Mapping[str, Any]
    about: Mapping[str, Any]
    check: str = ""


class _Unjoined(FedloomError):
    """The silo does not know the run."""


class _Resident(NamedTuple):
    """A client in memory: where its state lies, that state's print, and what it last answered."""

    host: ClientHost
    place: StateId
    seen: tuple[int, str]
    record: Record
    reply: bytes


class SiloHost:
    """Answers envelopes for the silo called `name`.

    With a `recipe` the silo has one client, called like the silo and made by that recipe alone. Without, it makes the
    clients that a run's Join assigns to it: only for silos that one's own process has started.
    `private_errors`: an error's text stays in this process's log, and the server is told its kind alone.
    `bounds`: what a server may have of the silo; None: whatever it asks, for silos that one's own process has started.
    """

    def __init__(
        self,
        store: SiloStore,
        name: str,
        recipe: Recipe | None = None,
        *,
        private_errors: bool = False,
        bounds: SiloBounds | None = None,
    ) -> None:
        self.store, self.name, self.recipe, self.private_errors = store, name, recipe, private_errors
        self.bounds = bounds or NO_BOUNDS
        self.loads = 0  # how often clients were built: once a run, and once more after a restart
        self._run: str | None = None
        self._clients: dict[str, _Resident] = {}
        self._ledger: Ledger | None = None
        self._gate: SiloGate | None = None

    def answer(self, envelope: Envelope) -> Envelope:
        """The answer; failures are values in it."""
        header = envelope.header
        try:
            for notice in header.get("notices", ()):
                log.warning("the server says: %s", str(notice)[:500])
            match header.get("op"):
                case "hello":
                    return Envelope(self._hello())
                case "ping":
                    return Envelope({"loads": self.loads, "pid": os.getpid()})
                case "join":
                    return Envelope(self._join(str(header["run"]), envelope.payloads[0]))
                case "ask":
                    return self._ask(str(header["run"]), header["requests"], envelope.payloads)
                case "rewind":
                    return Envelope(self._rewind(str(header["run"]), int(header["round"])))
                case "finish":
                    return Envelope(self._finish(str(header["run"])))
                case other:
                    raise ContractBreach(f"silo {self.name!r} knows no {str(other)[:40]!r}")
        except _Unjoined as error:
            return Envelope({"silo": self.name, "failed": str(error), "unjoined": True})
        except Exception as error:
            log.warning("%s: %s", header.get("op"), one_line(error), exc_info=not isinstance(error, FedloomError))
            return Envelope({"silo": self.name, "failed": self._told(error)})

    # ---------------------------------------------------------------------------------------------- envelopes

    def _hello(self) -> dict[str, Any]:
        about = dict(self.recipe.about) if self.recipe else None
        return {"silo": self.name, "about": about, "protocol": PROTOCOL, "version": __version__}

    def _join(self, run: str, payload: bytes) -> dict[str, Any]:
        if payload != self.store.joined(run):
            SiloGate.receive(self.bounds, payload)
            self._allowed(decode(payload, Join))
            self._leave()
            self.store.join(run, payload)
        self._enter(run)
        self.store.forget(RUNS_KEPT, exports=self.bounds.delete_exports)
        return self._present()

    def _allowed(self, join: Join) -> None:
        """Raises BoundBreach for an offer beyond the silo's bounds."""
        if self.recipe is not None and self.recipe.check and join.offer:
            load_function(self.recipe.check)(parse(join.offer), **self.recipe.arguments)

    def _ask(self, run: str, requests: Sequence[Mapping[str, Any]], payloads: Sequence[bytes]) -> Envelope:
        self._enter(run)
        rows: list[dict[str, Any]] = []
        replies: list[bytes] = []
        for r in requests:
            client, payload = str(r["client"]), payloads[int(r["payload"])]
            outcome = self._one(run, client, str(r["verb"]), int(r["round"]), str(r["key"]), payload)
            row = {"client": client, "error": outcome.error, "seconds": outcome.seconds, "payload": None}
            if outcome.payload is not None:
                row["payload"] = len(replies)
                replies.append(outcome.payload)
            rows.append({**row, "detail": self._shown(outcome)})
        return Envelope({"silo": self.name, "outcomes": rows}, tuple(replies))

    def _rewind(self, run: str, round: int) -> dict[str, Any]:
        self._enter(run)
        for name, resident in self._clients.items():
            if self.store.rewind(run, name, round) is None:
                raise FedloomError(f"silo {self.name!r} has no state of round {round} or before")
            self._clients[name] = self._loaded(run, resident.host)
        log.info("run %s: back at the end of round %d", run, round)
        return self._present()

    def _finish(self, run: str) -> dict[str, Any]:
        self._enter(run)
        for name, resident in self._clients.items():
            export = getattr(resident.host.client, "export", None)
            if export is not None:
                place = self.store.folder(run) / "export" / name
                if not self.bounds.delete_exports:
                    put_aside(place)
                export(place)
        log.info("run %s is over; the models are in %s", run, self.store.folder(run) / "export")
        return self._present()

    # -------------------------------------------------------------------------------------------- residents

    def _enter(self, run: str) -> None:
        """Loads the clients of `run`, each with its newest state."""
        if run == self._run:
            return
        payload = self.store.joined(run)
        if payload is None:
            raise _Unjoined(f"silo {self.name!r} has not joined run {run!r}")
        self._leave()
        join = decode(payload, Join)
        self._allowed(join)  # the operator may have changed the bounds since the silo joined
        specs, contract = self._specs(run, join)
        self._gate = SiloGate(self.bounds, None if self.bounds is NO_BOUNDS else self.store.folder(run) / SPENT)
        self.loads += 1
        with self._gate.work(0):  # a warm start is work too
            for spec in specs:
                host = ClientHost(spec, contract, remember=0, guard=self._gate.check)
                newest = self.store.newest(run, spec.name)
                if newest is None:
                    snapshot, start = host.snapshot(), Record("", 0, "", "")
                    self.store.save(run, snapshot, StateId(0, 0), start, b"")
                    self._clients[spec.name] = _Resident(host, StateId(0, 0), _print(snapshot), start, b"")
                else:
                    self._clients[spec.name] = self._loaded(run, host)
        self._ledger = Ledger(self.store.folder(run) / "ledger.jsonl")
        self._run = run  # last: only now all is there
        log.info("run %s: %s", run, ", ".join(f"{s.name} ({s.modality})" for s in specs))

    def _leave(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        self._run, self._ledger = None, None
        self._clients = {}

    def _specs(self, run: str, join: Join) -> tuple[list[ClientSpec], WireContract]:
        """The recipes of this silo's clients in a run, and the wire contract that guards them."""
        if self.recipe is None:
            if not join.assigned:
                raise FedloomError(f"silo {self.name!r} has no recipe of its own and was assigned no client")
            assigned = parse(join.assigned).get(self.name, [])
            return [ClientSpec(**spec) for spec in assigned], WireContract.from_names(parse(join.contract))
        if not join.offer:
            raise ContractBreach(f"silo {self.name!r} makes its own client; the server would have it made otherwise")
        offer, public = parse(join.offer), self.store.folder(run) / "public"
        contract: WireContract = load_function(self.recipe.prepare)(offer, join.public, public)
        if contract.to_names() != parse(join.contract):
            raise ContractBreach(
                f"silo {self.name!r}: the server's messages are not those of fedloom {__version__} here"
            )
        new = self.store.newest(run, self.name) is None
        arguments = {**self.recipe.arguments, "offer": offer, "public": str(public), "warm": new}
        return [ClientSpec(self.name, self.recipe.modality, self.recipe.factory, arguments)], contract

    def _loaded(self, run: str, host: ClientHost) -> _Resident:
        """A client's host with the client's newest state."""
        place = self.store.newest(run, host.spec.name)
        if place is None:
            raise FedloomError(f"silo {self.name!r} has no state of {host.spec.name!r} in run {run!r} any more")
        record, reply = self.store.load(run, host, place)
        return _Resident(host, place, _print(host.snapshot()), record, reply)

    def _one(self, run: str, client: str, verb: str, round: int, key: str, payload: bytes) -> Outcome:
        """The outcome of one request."""
        assert self._ledger is not None
        if client not in self._clients:
            return Outcome(None, "refused", f"silo {self.name!r} has no client {client[:60]!r}")
        resident = self._clients[client]
        if self.store.newest(run, client) != resident.place:  # another process has answered for it meanwhile
            resident = self._clients[client] = self._loaded(run, resident.host)
        record = partial(self._ledger.record, round=round, client=client, verb=verb)
        heard: list[Described | None] = []

        def down(held: Described | None) -> None:
            heard.append(held)
            record(direction="down", payload=payload, described=held)

        outcome = self._within_bounds(run, resident, Record(verb, round, key, ""), payload, down)
        if not heard:  # refused before it was read
            down(None)
        if outcome.payload is not None:
            held = resident.host.contract.describe(verb, outcome.payload, "up", own=True)
            record(direction="up", payload=outcome.payload, described=held)
        done = "done" if outcome.error is None else f"{outcome.error}: {outcome.detail}"
        level = logging.INFO if outcome.error is None else logging.WARNING
        log.log(level, "round %d, %s for %s: %s (%.2f s)%s", round, verb, client, done, outcome.seconds,
                "\n" + outcome.trace if outcome.trace else "")  # fmt: skip
        return outcome

    def _within_bounds(
        self, run: str, resident: _Resident, asked: Record, payload: bytes, received: Received
    ) -> Outcome:
        """The outcome of a request; where it is beyond the silo's bounds, the client is as it was before."""
        assert self._gate is not None
        (verb, round, key, _), client = asked, resident.host.spec.name
        try:
            with self._gate.work(round):
                SiloGate.receive(self.bounds, payload)
                # The digest takes as long as the rest together, so it waits until somebody needs it.
                if resident.record[:3] == asked[:3] and resident.record.digest == _digest(payload):
                    log.info("round %d, %s for %s: answered from the record", round, verb, client)
                    received(resident.host.contract.describe(verb, payload, "down"))
                    self._gate.sent(resident.reply)
                    return Outcome(resident.reply)
                log.info("round %d, %s for %s", round, verb, client)  # hours may pass until it is done
                outcome = resident.host.outcome(verb, round, key, payload, received)
                if outcome.detail.startswith(BEYOND):
                    raise BoundBreach(outcome.detail)
                if outcome.payload is not None:
                    self._gate.sent(outcome.payload)
                return self._kept(run, resident, asked, payload, outcome)
        except BoundBreach as breach:
            self._gate.refuse()
            self._clients[client] = self._loaded(run, resident.host)
            return Outcome(None, "refused", str(breach))
        except FedloomError as error:  # what is spent cannot be kept
            return Outcome(None, "raised", str(error))

    def _kept(self, run: str, before: _Resident, record: Record, payload: bytes, outcome: Outcome) -> Outcome:
        """Saves the client's state, if it has changed, before its reply is sent."""
        try:
            snapshot = before.host.snapshot()
            seen = _print(snapshot)
            if seen == before.seen:
                return outcome
            place = StateId(record.round, before.place.number + 1)
            # A request that failed is not answered from the record: it would be done again.
            kept, reply = Record("", 0, "", ""), b""
            if outcome.payload is not None:
                kept, reply = record._replace(digest=_digest(payload)), outcome.payload
            self.store.save(run, snapshot, place, kept, reply)
        except FedloomError as error:
            return Outcome(None, "raised", str(error), seconds=outcome.seconds)
        self._clients[snapshot.client] = _Resident(before.host, place, seen, kept, reply)
        return outcome

    # ------------------------------------------------------------------------------------------------ words

    def _present(self) -> dict[str, Any]:
        clients = {name: resident.host.spec.modality for name, resident in self._clients.items()}
        return {"silo": self.name, "clients": clients, "loads": self.loads}

    def _shown(self, outcome: Outcome) -> str:
        """An outcome's detail as the server may read it."""
        if not self.private_errors or outcome.error is None or outcome.detail.startswith(BEYOND):
            return outcome.detail
        return f"{outcome.detail.partition(':')[0][:60]}; the silo's log says more"

    def _told(self, error: BaseException) -> str:
        if not self.private_errors or isinstance(error, ContractBreach):
            return " ".join(str(error).split()) if isinstance(error, FedloomError) else one_line(error)
        return f"silo {self.name!r}: {type(error).__name__}; the silo's log says more"


def _print(snapshot: Snapshot) -> tuple[int, str]:
    """Identifies a state."""
    return zlib.crc32(snapshot.data), snapshot.meta


def _digest(payload: bytes) -> str:
    """Identifies a request among those of the same verb, round and key."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()
