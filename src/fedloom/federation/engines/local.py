"""The default engine: all clients on this machine, in this process or in worker processes.

Of each process's clients all are in memory, or so many at most while the others wait in files. A client that is parked
has its state in two files, as a checkpoint holds it: those of the last checkpoint, where it has not changed since, else
files of its own. It is taken up again as a resumed run takes it up, so no number differs.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.base import Engine, EngineContext
from fedloom.federation.engines.workers.pool import WorkerPool
from fedloom.federation.exchange import Arrival, Missing, Request
from fedloom.federation.host import ClientHost, ClientSpec, Outcome
from fedloom.federation.ledger import Ledger
from fedloom.runs.disk import explained


class LocalFederation(Federation):
    """Clients built from `specs`: in this process (`workers` = 0), or client i in process i % `workers`.

    With workers, each process has `threads` threads for arithmetic, and calls `initialiser`
    ("module:function", given `threads`) before it builds its clients. `start_timeout` is the seconds a
    process has to build them, and later to write a checkpoint; one that takes longer is killed. A client
    whose process died is rebuilt when it is next asked, from the last checkpoint if there is one (`missing`
    then has a row with verb "restart").

    resident: how many clients a process holds in memory at most, None: all; the others wait in the folder `parking`,
    which belongs to this federation, and are built when they are first asked.

    In this process `ask` runs the clients one after the other before it returns. Their deadline counts each
    client's own seconds, as if they had run side by side, and their arithmetic takes the threads this process
    has.

    Raises FedloomError (BadInput where a client says so) naming the client that cannot be built.
    """

    def __init__(
        self,
        specs: Sequence[ClientSpec],
        contract: WireContract,
        ledger: Ledger | None = None,
        workers: int = 0,
        threads: int = 1,
        start_timeout: float = 120.0,
        initialiser: str | None = None,
        resident: int | None = None,
        parking: Path | None = None,
    ) -> None:
        names = [spec.name for spec in specs]
        if not names or len(set(names)) < len(names):
            raise BadInput(f"clients are {names}; there must be at least one, each with its own name")
        if workers < 0 or threads < 1 or not start_timeout > 0:
            raise BadInput(
                f"workers = {workers} must be at least 0, threads = {threads} at least 1, "
                f"start_timeout = {start_timeout} above 0"
            )
        super().__init__({spec.name: spec.modality for spec in specs}, contract, ledger or Ledger())
        self._parking = parking
        if parking is not None:
            clear(parking, make=resident is not None)
        self._host: Here | WorkerPool = (
            Here(specs, contract, resident, parking)
            if workers == 0
            else WorkerPool(
                specs,
                contract,
                workers=workers,
                threads=threads,
                start_timeout=start_timeout,
                initialiser=initialiser,
                resident=resident,
                parking=parking,
                restarted=lambda client, detail: self._miss(Missing(self.round, "restart", client, "lost", detail)),
            )
        )

    def checkpoint_moved(self, folder: Path | str) -> None:
        self._host.moved(Path(folder))

    def close(self) -> None:
        self._host.close()
        self.ledger.close()
        if self._parking is not None:
            clear(self._parking)

    def _post(self, requests: Sequence[Request]) -> None:
        self._host.post(requests)

    def _collect(self, wait: float | None) -> Arrival | None:
        return self._host.collect(wait)

    def _save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        self._host.save(folder, tag)

    def _load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        self._host.load(folder, tag)


class Residents:
    """The clients of `specs`, at most `most` of them in memory, built when they are first asked; None: all.

    parking: folder for the files of those that wait and have changed since the last checkpoint.
    """

    def __init__(
        self, specs: Sequence[ClientSpec], contract: WireContract, most: int | None = None, parking: Path | None = None
    ) -> None:
        if most is not None and (most < 1 or parking is None):
            raise BadInput(f"resident = {most}, allowed: 1 or more, with a folder for those that wait ({parking})")
        self.most, self._parking = most, parking or Path()
        # A repeated request never comes here: what a dead worker held is lost, not sent again.
        self._hosts = {spec.name: ClientHost(spec, contract, remember=0) for spec in specs}
        self._here: dict[str, None] = {}  # in memory, the least recently asked first
        self._asked: set[str] = set()  # since their state was last looked at
        self._digests: dict[str, bytes] = {}  # of the state that is in files; b"": not known, as they were not read yet
        self._parked: set[str] = set()  # whose files are in `parking`; those of the others are in the checkpoint
        self._checkpoint, self._tag = Path(), dict[str, Any]()
        self._broken: dict[str, str] = {}  # client -> why its state could not be had back

    def build(self) -> None:
        """Where all are in memory, builds them. Raises FedloomError (BadInput where a client says so) naming one."""
        if self.most is None:
            for host in self._hosts.values():
                _ = host.client

    def outcome(self, client: str, verb: str, round: int, key: str, payload: bytes) -> Outcome:
        """What became of a request. Raises FedloomError where the client, or the one it displaces, has no place."""
        if client in self._broken:
            return Outcome(None, "lost", self._broken[client])
        self._tag = {"round": round}
        host = self._hosts[client] if self.most is None else self._take_up(client)
        self._asked.add(client)
        return host.outcome(verb, round, key, payload)

    def save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Has the state of each client in `folder`; of one that has not changed, its files are linked there."""
        self._tag = dict(tag)
        for name, host in self._hosts.items():
            if name in self._broken:
                raise FedloomError(f"client {name!r} has no state to save: {self._broken[name]}")
            if name not in self._digests:
                host = self._take_up(name)  # it has never been asked
            if not (host.built and self._write_changed(name, folder)):
                self._place(name, folder)
        self._checkpoint = folder
        for name in self._parked:  # of those that have changed since
            for file in _files(name):
                (self._parking / file).unlink(missing_ok=True)
        self._parked.clear()

    def load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """All clients are as `save` left them in `folder`. Raises FedloomError; those it does not name go on."""
        self._tag, self._checkpoint = dict(tag), folder
        self._digests = dict.fromkeys(self._hosts, b"")
        for kept in (self._parked, self._asked, self._broken):
            kept.clear()
        for name in list(self._hosts if self.most is None else self._here):
            try:
                self._digests[name] = self._hosts[name].load(folder, self._tag, earlier=True)
            except FedloomError as error:
                self._broken[name] = str(error)
        if self._broken:
            raise FedloomError(next(iter(self._broken.values())))

    def moved(self, folder: Path) -> None:
        """The last checkpoint lies in `folder` now."""
        self._checkpoint = folder

    def _take_up(self, name: str) -> ClientHost:
        """The client, in memory; the one that was asked least recently makes room for it."""
        host = self._hosts[name]
        if not host.built:
            while self.most is not None and len(self._here) >= self.most:
                self._park(next(iter(self._here)))
            _ = host.client
            if name in self._digests:
                try:
                    self._digests[name] = host.load(self._folder(name), self._tag, earlier=True)
                except FedloomError:
                    host.release()
                    raise
        self._here.pop(name, None)
        self._here[name] = None
        return host

    def _park(self, name: str) -> None:
        if self._write_changed(name, self._parking, durable=False):
            self._parked.add(name)
        self._hosts[name].release()
        del self._here[name]

    def _folder(self, name: str) -> Path:
        return self._parking if name in self._parked else self._checkpoint

    def _write_changed(self, name: str, folder: Path, *, durable: bool = True) -> bool:
        """Writes the client's state into `folder` if it is another than its files hold; whether it was."""
        if name in self._digests and name not in self._asked:
            return False
        snapshot = self._hosts[name].snapshot()
        self._asked.discard(name)
        digest = snapshot.digest()
        if self._digests.get(name) == digest:
            return False
        snapshot.write(folder, self._tag, durable=durable)
        self._digests[name] = digest
        return True

    def _place(self, name: str, folder: Path) -> None:
        """Puts the client's files into `folder`, a checkpoint's, which puts them on disk for good."""
        for file in _files(name):
            source, target = self._folder(name) / file, folder / file
            with explained("write", target):
                if name in self._parked:
                    source.replace(target)
                    continue
                target.unlink(missing_ok=True)  # of a worker that died while it saved
                try:
                    os.link(source, target)
                except OSError:  # there are file systems that cannot
                    shutil.copyfile(source, target)


def _files(name: str) -> tuple[str, str]:
    return f"{name}.safetensors", f"{name}.json"


def clear(parking: Path, *, make: bool = False) -> None:
    """Removes the files of parked clients; make: an empty folder is to be there afterwards. Raises FedloomError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(parking)
    if make:
        with explained("use", parking):
            parking.mkdir(parents=True)


class Here(Residents):
    """Clients in this process. Messages are encoded all the same, so nothing is shared by accident."""

    def __init__(
        self, specs: Sequence[ClientSpec], contract: WireContract, most: int | None = None, parking: Path | None = None
    ) -> None:
        super().__init__(specs, contract, most, parking)
        self._done: deque[Arrival] = deque()
        self._closed = False
        self.build()

    def post(self, requests: Sequence[Request]) -> None:
        """Runs the clients, in the order of the requests."""
        if self._closed:
            raise FedloomError("the federation is closed")
        posted = time.monotonic()
        for r in requests:
            outcome = self.outcome(r.client, r.verb, r.round, r.key, r.payload)
            self._done.append(Arrival(r.id, outcome, posted + outcome.seconds))

    def collect(self, wait: float | None) -> Arrival | None:
        """The next arrival, without waiting: all work is done in `post`."""
        return self._done.popleft() if self._done else None

    def close(self) -> None:
        self._closed = True
        self._hosts.clear()


START_TIMEOUT = 1800.0  # seconds a worker process has to build its clients


def _build(
    specs: Sequence[ClientSpec], contract: WireContract, ledger: Ledger, context: EngineContext
) -> LocalFederation:
    e = context.settings
    return LocalFederation(
        specs,
        contract,
        ledger,
        e.workers,
        e.threads,
        START_TIMEOUT,
        context.initialiser,
        resident=e.resident,
        parking=context.parking,
    )


ENGINE = Engine("local", _build, "this process, or worker processes of this machine")
