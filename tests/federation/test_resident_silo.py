"""The resident worker of a silo as a real process: token, one at a time, killed over a letter, dies with its parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_clients import CONTRACT, Opinion, Wish
from toy_federations import PROBE, alive

from fedloom.federation import ClientSpec
from fedloom.federation.codec import decode, encode
from fedloom.federation.engines.silo.envelopes import Envelope, Join
from fedloom.federation.engines.silo.relay import relay


class Worker:
    """A resident worker in `folder`; `start` starts (another) one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.token = folder, str(folder / "s"), folder / "token"
        self.token.write_bytes(os.urandom(32))
        settings = {"name": "silo-0", "threads": 1, "initialiser": None, "recipe": None}
        (folder / "settings.json").write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        options = {"folder": self.folder / "state", "socket": self.socket, "token": self.token}
        argv = [f"--{key}={value}" for key, value in options.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedloom.federation.engines.silo.resident", *argv]
            + [f"--settings={self.folder / 'settings.json'}"],
            stdin=subprocess.PIPE,
            stdout=(self.folder / "log.txt").open("ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def say(self, header: dict[str, Any], *payloads: bytes, patience: float = 600.0) -> Envelope:
        return relay(Envelope(header, payloads), self.socket, self.token, patience=patience)

    def join(self, *specs: ClientSpec) -> Envelope:
        assigned = json.dumps({"silo-0": [spec.to_json() for spec in specs]})
        return self.say({"op": "join", "run": "r"}, encode(Join(json.dumps(CONTRACT.to_names()), assigned, "", {})))

    def ask(self, verb: str, message: Any, round: int) -> Envelope:
        rows = [{"client": "image-0", "verb": verb, "round": round, "key": "1", "payload": 0}]
        return self.say({"op": "ask", "run": "r", "requests": rows}, encode(message))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.kill()


TOY = ClientSpec("image-0", "image", "toy_clients:make", {"seed": 5})


def test_it_holds_its_clients_and_survives_a_kill(worker: Worker) -> None:
    assert worker.say({"op": "hello"}).header["silo"] == "silo-0"
    assert worker.join(TOY).header["clients"] == {"image-0": "image"}
    first = worker.ask("infer", PROBE, 1)
    ping = worker.say({"op": "ping"}).header
    assert ping == {"loads": 1, "pid": worker.process.pid}
    worker.kill()
    worker.start()
    assert worker.ask("infer", PROBE, 1).payloads == first.payloads  # from the record: the state is after it
    second = decode(worker.ask("infer", PROBE, 2).payloads[0], Opinion)
    assert second.representations.shape == (2, 5)
    said = decode(worker.ask("retrain", Wish(""), 2).payloads[0], Wish)
    assert said.what == "image-0 2 3"


def test_a_letter_outlives_the_worker_that_dies_over_it(worker: Worker, tmp_path: Path) -> None:
    """The relay gives the letter again to the next worker: the numbers are those of an unbroken run."""
    worker.join(TOY)
    code = (
        "import sys, json; from pathlib import Path; from fedloom.federation.engines.silo.relay import relay;"
        "from fedloom.federation.engines.silo.envelopes import Envelope;"
        f"l = relay(Envelope({{'op': 'ask', 'run': 'r', 'requests': [dict(client='image-0', verb='retrain', round=1,"
        f" key='1', payload=0)]}}, (Path(sys.argv[1]).read_bytes(),)), {worker.socket!r}, Path({str(worker.token)!r}));"
        "Path(sys.argv[2]).write_bytes(l.payloads[0])"
    )
    go_on = tmp_path / "go on"
    (tmp_path / "in").write_bytes(encode(Wish(f"wait image-0 {go_on}")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out")]
    asked = subprocess.Popen(argv, env=environment)
    while "round 1, retrain for image-0" not in (tmp_path / "log.txt").read_text():
        assert asked.poll() is None
        time.sleep(0.02)
    worker.kill()
    go_on.touch()
    worker.start()
    assert asked.wait() == 0
    assert decode((tmp_path / "out").read_bytes(), Wish).what == "image-0 1 1"


def test_without_the_token_nothing_is_said(worker: Worker) -> None:
    worker.say({"op": "ping"})
    assert oct(os.stat(worker.socket).st_mode)[-3:] == "600"
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(worker.socket)
        s.sendall(b"x" * 32 + b'FLMW{"op": "ping"}')
        s.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert s.recv(100) == b""
    assert worker.say({"op": "ping"}).header["loads"] == 0
    assert "no valid token" in (worker.folder / "log.txt").read_text()


def test_letters_are_answered_one_after_the_other(worker: Worker) -> None:
    from concurrent.futures import ThreadPoolExecutor

    worker.join(TOY)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(worker.ask, "retrain", Wish("sleep", 0.3), i) for i in (1, 2, 3)]
        calls = sorted(decode(a.result().payloads[0], Wish).what.split()[-1] for a in asked)
    assert calls == ["1", "2", "3"]


def test_a_second_worker_on_the_same_folder_is_refused(worker: Worker) -> None:
    worker.say({"op": "ping"})
    first = worker.process
    worker.start()
    assert worker.process.wait() == 1
    assert "is in use by another worker" in (worker.folder / "log.txt").read_text()
    worker.process = first


def test_it_ends_with_its_parent(worker: Worker) -> None:
    worker.say({"op": "ping"})
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    worker.process.wait()
    assert not alive(worker.process.pid)


def test_no_worker(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"t")
    said = relay(Envelope({"op": "ping"}), str(tmp_path / "none"), tmp_path / "token", patience=0.2)
    assert said.header == {"failed": "the silo's worker cannot be reached for 0.2 s", "lost": True}


def test_large_messages(worker: Worker) -> None:
    from toy_clients import Blob

    worker.join(TOY)
    data = np.arange(50_000_000, dtype=np.uint8)
    answer = worker.ask("echo", Blob(data), 1)
    assert np.array_equal(decode(answer.payloads[0], Blob).data, data)


def test_relay_is_light() -> None:
    """What runs once a message imports no model library."""
    code = (
        "import sys, fedloom.federation.engines.flower.client_app as m; m.make_client_app();"
        "print([n for n in ('torch', 'transformers', 'diffusers', 'pandas', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stopped_worker_is_told_apart(worker: Worker) -> None:
    worker.say({"op": "ping"})
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait() == -signal.SIGTERM
