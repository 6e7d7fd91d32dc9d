"""The default engine: all clients on this machine, in this process or resident in worker processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.base import Engine, EngineContext
from fedloom.federation.engines.workers.pool import WorkerPool
from fedloom.federation.exchange import Arrival, Missing, Request
from fedloom.federation.host import ClientSpec
from fedloom.federation.ledger import Ledger
from fedloom.federation.residents import Residents, clear


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
