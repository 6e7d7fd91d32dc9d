"""The resident worker of a silo: a process that holds its clients and answers envelopes on a local socket.

    python -m fedloom.federation.engines.silo.resident --folder STATE --socket PATH --token FILE --settings FILE

The settings (JSON): name, threads, initialiser ("module:function", given threads) or null, private_errors, keep, bounds
(see `config.bounds`) or null, and recipe (modality, prepare, factory, arguments, about, check) or null. Who connects
must show the token. The process ends when its standard input does, so it never outlives the one that started it.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import logging
import os
import queue
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.config.bounds import SiloBounds
from fedloom.config.trees import validate
from fedloom.errors import FedloomError
from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.federation.engines.silo.host import Recipe, SiloHost
from fedloom.federation.engines.silo.store import SiloStore
from fedloom.federation.host import load_function
from fedloom.processes.frames import read_frame, write_frame
from fedloom.processes.parent import end_with_input
from fedloom.runs.disk import locked
from fedloom.strict_json import parse

log = logging.getLogger(__name__)


class _Job(NamedTuple):
    envelope: Envelope
    answer: queue.SimpleQueue[Envelope]


def host_from(settings: dict[str, Any], folder: Path) -> SiloHost:
    """The host that the settings describe, after its initialiser ran."""
    if settings.get("initialiser"):
        load_function(settings["initialiser"])(settings["threads"])
    recipe = Recipe(**settings["recipe"]) if settings.get("recipe") else None
    store = SiloStore(folder, keep=settings.get("keep", 3))
    bounds = validate(SiloBounds, settings["bounds"], "bounds") if settings.get("bounds") else None
    private = settings.get("private_errors", False)
    return SiloHost(store, settings["name"], recipe, private_errors=private, bounds=bounds)


def serve(host: SiloHost, path: str, token: bytes) -> None:
    """Answers envelopes on the socket, one after the other, in the thread that called."""
    jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen()
        threading.Thread(target=_accept, args=(listener, token, jobs), daemon=True).start()
        log.info("silo %s is ready", host.name)
        while True:
            job = jobs.get()
            job.answer.put(host.answer(job.envelope))
            del job  # or its payloads stay in memory until the next one


def _accept(listener: socket.socket, token: bytes, jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_converse, args=(connection, token, jobs), daemon=True).start()


def _converse(connection: socket.socket, token: bytes, jobs: queue.SimpleQueue[_Job]) -> None:
    """One connection: a token, then envelopes until the other side hangs up."""
    answer: queue.SimpleQueue[Envelope] = queue.SimpleQueue()
    with connection, connection.makefile("rwb") as stream, contextlib.suppress(OSError, ValueError):
        given = stream.read(len(token))
        if not hmac.compare_digest(given, token):
            log.warning("refused a connection to the socket: it showed no valid token")
            return
        while (frame := read_frame(stream)) is not None:
            jobs.put(_Job(Envelope(*frame), answer))
            write_frame(stream, *_flat(answer.get()))


def _flat(envelope: Envelope) -> tuple[Any, ...]:
    return (envelope.header, *envelope.payloads)


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(description="the resident worker of a silo")
    for name in ("folder", "socket", "token", "settings"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    end_with_input()
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with locked(folder / ".lock", wait=False):
            settings = parse(Path(given.settings).read_bytes(), finite=False, halves=True)
            serve(host_from(settings, folder), given.socket, Path(given.token).read_bytes())
    except BlockingIOError:
        raise SystemExit(f"{folder} is in use by another worker") from None
    except FedloomError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
