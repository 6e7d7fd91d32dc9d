"""Worker processes of this machine, each with its own clients; one that dies is replaced when next needed."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.contract import WireContract
from fedloom.federation.exchange import Arrival, Request
from fedloom.federation.host import ClientSpec, Outcome
from fedloom.processes.child import Frame, FramedChild, python_environment

log = logging.getLogger(__name__)

_GLANCE = 0.5  # seconds of silence after which the processes themselves are looked at
_GRACE = 3.0  # seconds a worker has to end by itself


class ClientProcess(FramedChild):
    """A worker process with these clients. `waiting`: the requests it owes an answer to."""

    what = "worker process"

    def __init__(self, clients: Sequence[ClientSpec], threads: int, frames: queue.SimpleQueue[Frame]) -> None:
        self.clients, self.waiting, self.lost = clients, set[int](), False
        super().__init__(["-m", "fedloom.federation.engines.workers.worker"], frames, env=python_environment(threads))

    def order(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Sends a frame; the answer to its id is then due. Raises OSError when the process is dead."""
        self.send(header, payload)
        self.waiting.add(header["id"])

    def dead(self) -> bool:
        return self.lost or not self.alive()


class WorkerPool:
    """What `local.Here` is, in `workers` processes: host i lives in process i % workers.

    `restarted(client, detail)` is told of each client whose process had to be replaced.
    """

    def __init__(
        self,
        specs: Sequence[ClientSpec],
        contract: WireContract,
        *,
        workers: int,
        threads: int,
        start_timeout: float,
        initialiser: str | None,
        resident: int | None,
        parking: Path | None,
        restarted: Callable[[str, str], None],
    ) -> None:
        self._groups = [list(specs[i::workers]) for i in range(min(workers, len(specs)))]
        self._place = {spec.name: i for i, group in enumerate(self._groups) for spec in group}
        self._threads = threads
        self._setup: dict[str, Any] = {
            "op": "start",
            "contract": contract.to_names(),
            "initialiser": initialiser,
            "threads": threads,
            "resident": resident,
            "parking": None if parking is None else str(parking.resolve()),
        }
        self._patience = start_timeout
        self._restarted = restarted
        self._restore: dict[str, Any] | None = None
        self._events: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._arrivals: deque[Arrival] = deque()
        self._answers: dict[int, dict[str, Any]] = {}  # to orders: start, save, load; their ids are negative
        self._orders = itertools.count(-1, -1)
        self._workers: list[ClientProcess] = []
        try:
            starts = dict(self._spawn(group) for group in self._groups)
            for worker, failed in self._await(starts).items():
                names = ", ".join(spec.name for spec in worker.clients)
                _raise(f"clients {names} cannot be built: ", failed)
        except BaseException:
            self.close()
            raise

    def post(self, requests: Sequence[Request]) -> None:
        """Sends each request to its worker, replacing a worker that has died."""
        for r in requests:
            header = {"op": "ask", **r._asdict()}
            del header["payload"]
            try:
                self._send(self._place[r.client], header, r.payload)
            except OSError as error:
                lost = Outcome(None, "lost", f"its worker cannot be reached: {error}")
                self._arrivals.append(Arrival(r.id, lost, time.monotonic()))

    def collect(self, wait: float | None) -> Arrival | None:
        """The next arrival within `wait` seconds."""
        end = None if wait is None else time.monotonic() + wait
        while not self._arrivals:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._take(left) and left is not None and left <= _GLANCE:
                break
        return self._arrivals.popleft() if self._arrivals else None

    def save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Each worker saves its clients; a dead or too slow one is first replaced from the last checkpoint."""
        order = {"op": "save", "folder": str(folder.resolve()), "tag": dict(tag)}
        for worker, failed in self._order(order, range(len(self._groups))).items():
            if failed.get("lost"):
                again = self._order(order, [self._workers.index(worker)])
                failed = next(iter(again.values()), {})
            _raise("", failed)
        self._restore = {"folder": order["folder"], "tag": order["tag"]}

    def load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Each worker loads its clients."""
        order = {"op": "load", "folder": str(folder.resolve()), "tag": dict(tag)}
        self._restore = {"folder": order["folder"], "tag": order["tag"]}
        for failed in self._order(order, range(len(self._groups))).values():
            _raise("", failed)

    def moved(self, folder: Path) -> None:
        """The last checkpoint lies in `folder` now."""
        if self._restore is not None:
            self._restore["folder"] = str(folder.resolve())

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop(_GRACE)
            self._bury(worker, "the federation was closed")
        self._workers.clear()

    def _spawn(self, group: Sequence[ClientSpec], index: int | None = None) -> tuple[int, ClientProcess]:
        """(order id, new process told to build its clients); what is sent to it next waits behind that."""
        worker = ClientProcess(group, self._threads, self._events)
        if index is None:
            self._workers.append(worker)
        else:
            self._workers[index] = worker
        order = next(self._orders)
        clients = [spec.to_json() for spec in group]
        with contextlib.suppress(OSError):  # dead already: the reader thread says so
            worker.waiting.add(order)
            worker.order({**self._setup, "id": order, "clients": clients})
            if self._restore is not None:
                worker.order({"op": "load", "id": next(self._orders), **self._restore})
        return order, worker

    def _send(self, index: int, header: Mapping[str, Any], payload: bytes = b"") -> ClientProcess:
        """Sends to the worker at `index`, or to a new one in its place. Raises OSError if both fail."""
        if not self._workers:
            raise FedloomError("the federation is closed")
        if self._restore is not None:  # where clients that have not changed since have their files
            header = {**header, "checkpoint": self._restore["folder"]}
        if not self._workers[index].dead():
            with contextlib.suppress(OSError):
                self._workers[index].order(header, payload)
                return self._workers[index]
        dead = self._workers[index]
        self._clear_away(dead)
        start = f"the checkpoint in {self._restore['folder']}" if self._restore else "its first state"
        for spec in dead.clients:
            self._restarted(spec.name, f"{dead.exit_reason()}; begins again from {start}")
        _, new = self._spawn(dead.clients, index)
        new.order(header, payload)
        return new

    def _clear_away(self, dead: ClientProcess) -> None:
        """Ends what is left of a dead worker, and takes what it said before."""
        dead.stop(_GRACE)
        while self._take(0.0):
            pass
        self._bury(dead, dead.exit_reason())

    def _order(self, header: Mapping[str, Any], places: Sequence[int]) -> dict[ClientProcess, dict[str, Any]]:
        due = {}
        for index in places:
            order = next(self._orders)
            due[order] = self._send(index, {**header, "id": order})
        return self._await(due)

    def _await(self, due: Mapping[int, ClientProcess]) -> dict[ClientProcess, dict[str, Any]]:
        """Waits for answers, killing workers that give none in time; returns those that failed."""
        end = time.monotonic() + self._patience
        while any(order in worker.waiting for order, worker in due.items()):
            if time.monotonic() >= end:
                for worker in {w for order, w in due.items() if order in w.waiting}:
                    worker.kill()
                    self._bury(worker, f"worker did not answer within {self._patience:g} s")
            self._take(_GLANCE)
        answers = {worker: self._answers.pop(order) for order, worker in due.items()}
        return {worker: answer for worker, answer in answers.items() if answer["failed"] is not None}

    def _take(self, wait: float | None) -> bool:
        """Takes in one event within `wait` seconds, at most a glance; False when none came."""
        try:
            frame = self._events.get(timeout=_GLANCE if wait is None else min(wait, _GLANCE))
        except queue.Empty:
            # A dead worker's pipe stays open while a process it forked lives, so look at the processes too.
            if wait is None or wait >= _GLANCE:
                for worker in self._workers:
                    if worker.dead() and not worker.lost:
                        self._bury(worker, worker.exit_reason())
            return False
        worker, header = frame.child, frame.header
        if header is None:
            self._bury(worker, worker.exit_reason())
        elif header["id"] in worker.waiting:
            worker.waiting.discard(header["id"])
            self._accept(header, frame)
        return True

    def _accept(self, header: dict[str, Any], frame: Frame) -> None:
        if header["id"] < 0:
            self._answers[header["id"]] = header
            if header["failed"] is not None:
                log.warning("worker process %d: %s", frame.child.pid, header["failed"])
            return
        _raise("", header)
        error = header["error"]
        payload = frame.payloads[0] if error is None else None
        outcome = Outcome(payload, error, header["detail"], header["trace"], header["seconds"])
        self._arrivals.append(Arrival(header["id"], outcome, frame.arrived))

    def _bury(self, worker: ClientProcess, detail: str) -> None:
        """Everything a dead worker still owes is lost."""
        worker.lost, now = True, time.monotonic()
        for owed in sorted(worker.waiting):
            if owed < 0:
                self._answers[owed] = {"failed": detail, "bad_input": False, "lost": True}
            else:
                self._arrivals.append(Arrival(owed, Outcome(None, "lost", detail), now))
        worker.waiting.clear()


def _raise(prefix: str, answer: Mapping[str, Any]) -> None:
    """Raises what an order failed with, if it did."""
    if answer.get("failed") is not None:
        text = prefix + answer["failed"] if answer.get("lost") else answer["failed"]
        raise (BadInput if answer["bad_input"] else FedloomError)(text)
