"""The other end of the resident worker's socket. Light: what runs once a message must start fast.

A worker that dies over an envelope is started again by its supervisor, and the envelope is then sent again: what was
done already is answered from the record.
"""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.processes.frames import read_frame, write_frame

log = logging.getLogger(__name__)

TRIES = 3  # how often an envelope is sent to a worker that dies over it
_PAUSE = 0.05


def relay(envelope: Envelope, path: str, token: Path, *, patience: float = 120.0) -> Envelope:
    """The worker's answer; an answer that `failed` when there is none.

    patience: seconds to wait for a worker that is not (yet, again) there.
    """
    for attempt in range(1, TRIES + 1):
        connection = _connect(path, patience)
        if connection is None:
            return Envelope({"failed": f"the silo's worker cannot be reached for {patience:g} s", "lost": True})
        try:  # around the stream too: closing one whose buffer was not sent fails again
            with connection, connection.makefile("rwb") as stream:
                stream.write(token.read_bytes())
                write_frame(stream, envelope.header, *envelope.payloads)
                if (frame := read_frame(stream)) is not None:
                    return Envelope(*frame)
        except OSError as error:
            log.warning("the worker hung up: %s", error)
        log.warning("the worker died over an envelope (%d of %d)", attempt, TRIES)
    return Envelope({"failed": f"the silo's worker died {TRIES} times over this request", "lost": True})


def _connect(path: str, patience: float) -> socket.socket | None:
    end = time.monotonic() + patience
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() >= end:
                return None
            time.sleep(_PAUSE)
