"""A worker process (`python -m fedloom.federation.engines.workers.worker`): clients that stay in memory for a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.local import Residents
from fedloom.federation.host import ClientSpec, load_function, one_line
from fedloom.processes.parent import Parent
from fedloom.signals import leave_to_parent

Answer = tuple[dict[str, Any], bytes]


class ClientHosts:
    """The clients of one worker, and what it is asked to do with them."""

    def __init__(self) -> None:
        self._clients = Residents((), WireContract({}))

    def answer(self, header: Mapping[str, Any], payload: bytes) -> Answer:
        """The answering frame; failures are values in it."""
        try:
            if header.get("checkpoint"):
                self._clients.moved(Path(header["checkpoint"]))
            if header["op"] == "ask":
                client, verb, round, key = (header[name] for name in ("client", "verb", "round", "key"))
                result = self._clients.outcome(client, verb, round, key, payload)
                fields = {"error": result.error, "detail": result.detail, "trace": result.trace}
                return {"id": header["id"], **fields, "seconds": result.seconds}, result.payload or b""
            if header["op"] == "start":
                self._start(header)
            elif header["op"] == "save":
                self._clients.save(Path(header["folder"]), header["tag"])
            else:
                self._clients.load(Path(header["folder"]), header["tag"])
        except FedloomError as error:
            return {"id": header["id"], "failed": str(error), "bad_input": isinstance(error, BadInput)}, b""
        except Exception as error:  # noqa: BLE001 - the worker must live to answer for its other clients
            return {"id": header["id"], "failed": one_line(error), "bad_input": False}, b""
        return {"id": header["id"], "failed": None}, b""

    def _start(self, header: Mapping[str, Any]) -> None:
        specs = [ClientSpec(**spec) for spec in header["clients"]]
        parking = header["parking"] and Path(header["parking"])
        self._clients = Residents(specs, WireContract.from_names(header["contract"]), header["resident"], parking)
        if header["initialiser"] is not None:
            load_function(header["initialiser"])(header["threads"])
        self._clients.build()


def main() -> None:
    """Serves until the parent closes the pipe."""
    leave_to_parent()
    parent, hosts = Parent(), ClientHosts()
    while True:
        header, (payload,) = parent.receive()
        parent.send(*hosts.answer(header, payload))


if __name__ == "__main__":
    main()
