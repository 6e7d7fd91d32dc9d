"""The relay's tries, against a worker that a test stands for."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.federation.engines.silo.relay import relay
from fedloom.processes.frames import read_frame, write_frame


class Token:
    """A token that is read when the worker at the other end has hung up the first time."""

    def __init__(self, gone: threading.Event) -> None:
        self.gone = gone

    def read_bytes(self) -> bytes:
        assert self.gone.wait(60)
        return b"t" * 32


def test_a_worker_gone_before_the_letter_was_sent_is_tried_again(tmp_path: Path) -> None:
    """What is left in the stream's buffer cannot be sent when it is closed; that is no error of its own."""
    gone = threading.Event()

    def work(listening: socket.socket) -> None:
        listening.accept()[0].close()
        gone.set()
        connection, _ = listening.accept()
        with connection, connection.makefile("rwb") as stream:
            assert stream.read(32) == b"t" * 32
            assert read_frame(stream) == ({"op": "ping"}, (b"letter",))
            write_frame(stream, {"loads": 1})

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        worker = threading.Thread(target=work, args=(listening,), daemon=True)
        worker.start()
        token: Path = Token(gone)  # type: ignore[assignment]
        assert relay(Envelope({"op": "ping"}, (b"letter",)), str(tmp_path / "s"), token).header == {"loads": 1}
        worker.join(60)
