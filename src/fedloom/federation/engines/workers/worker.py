"""A worker process (`python -m fedloom.federation.engines.workers.worker`): clients that stay in memory for a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.contract import WireContract
from fedloom.federation.host import ClientHost, ClientSpec, Outcome, load_function, one_line
from fedloom.processes.parent import Parent
from fedloom.signals import leave_to_parent

Answer = tuple[dict[str, Any], bytes]


class ClientHosts:
    """The clients of one worker, and what it is asked to do with them."""

    def __init__(self) -> None:
        self._hosts: dict[str, ClientHost] = {}
        self._broken: dict[str, str] = {}  # client -> why its state could not be had back

    def answer(self, header: Mapping[str, Any], payload: bytes) -> Answer:
        """The answering frame; failures are values in it."""
        if header["op"] == "ask":
            result = self._ask(header, payload)
            fields = {"error": result.error, "detail": result.detail, "trace": result.trace}
            return {"id": header["id"], **fields, "seconds": result.seconds}, result.payload or b""
        try:
            if header["op"] == "start":
                self._start(header)
            elif header["op"] == "save":
                self._save(header)
            else:
                self._load(header)
        except FedloomError as error:
            return {"id": header["id"], "failed": str(error), "bad_input": isinstance(error, BadInput)}, b""
        except Exception as error:  # noqa: BLE001 - the worker must live to answer for its other clients
            return {"id": header["id"], "failed": one_line(error), "bad_input": False}, b""
        return {"id": header["id"], "failed": None}, b""

    def _ask(self, header: Mapping[str, Any], payload: bytes) -> Outcome:
        client = header["client"]
        if client in self._broken:
            return Outcome(None, "lost", self._broken[client])
        return self._hosts[client].outcome(header["verb"], header["round"], header["key"], payload)

    def _start(self, header: Mapping[str, Any]) -> None:
        contract = WireContract.from_names(header["contract"])
        for spec in header["clients"]:
            # A repeated request reaches a worker never: what a dead worker held is lost, not sent again.
            self._hosts[spec["name"]] = ClientHost(ClientSpec(**spec), contract, remember=0)
        if header["initialiser"] is not None:
            load_function(header["initialiser"])(header["threads"])
        for host in self._hosts.values():
            _ = host.client

    def _save(self, header: Mapping[str, Any]) -> None:
        for name, host in self._hosts.items():
            if name in self._broken:
                raise FedloomError(f"client {name!r} has no state to save: {self._broken[name]}")
            host.save(Path(header["folder"]), header["tag"])

    def _load(self, header: Mapping[str, Any]) -> None:
        self._broken.clear()
        for name, host in self._hosts.items():
            try:
                host.load(Path(header["folder"]), header["tag"])
            except FedloomError as error:
                self._broken[name] = str(error)
        if self._broken:
            raise FedloomError(next(iter(self._broken.values())))


def main() -> None:
    """Serves until the parent closes the pipe."""
    leave_to_parent()
    parent, hosts = Parent(), ClientHosts()
    while True:
        header, (payload,) = parent.receive()
        parent.send(*hosts.answer(header, payload))


if __name__ == "__main__":
    main()
