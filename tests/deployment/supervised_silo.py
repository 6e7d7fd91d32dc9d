"""A silo's supervisor over stand-ins for its two processes: they do what they are told and log what Flower would."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.deployment import pki, supervisor
from fedloom.deployment.supervisor import SiloSupervisor
from fedloom.processes.child import Child

SERVER = "fed.example.org:9092"
ID = "\x1b[92mINFO \x1b[0m:      SuperNode ID: 7221029442176745593"
FAILING = "\x1b[93mWARNING \x1b[0m:   Connection attempt failed, retrying in 0.65 seconds"
AGAIN = "\x1b[92mINFO \x1b[0m:      Connection successful after 23.95 seconds and 7 tries."
REFUSED = """Exit Code: 305
Failed to initialize the connection to the SuperLink.
[code: 2004] Failed to activate SuperNode.
The SuperNode could not establish a connection to the SuperLink.
INFO:     Finished server process [10554]"""
MISTRUST = (
    "Exit Code: 305\n[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer "
    "certificate (_ssl.c:1006)"
)
NO_TLS = "Exit Code: 305\nSSL/TLS handshake error: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"
STAND_IN = """
import sys, time
for line in sys.stdin if sys.argv[1] == "-" else open(sys.argv[1]):
    word, _, rest = line.strip().partition(" ")
    if word == "say":
        print(rest.replace("|", chr(10)), flush=True)
    elif word == "exit":
        sys.exit(int(rest))
time.sleep(900)
"""


def until(look: Callable[[], Any], seconds: float = 300.0) -> Any:
    end = time.time() + seconds
    while not (found := look()):
        assert time.time() < end, "it did not come"
        time.sleep(0.02)
    return found


class Silo:
    """A supervisor over stand-ins. `orders`: what each does when it starts, lines of "say TEXT" and "exit STATUS"."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.said = root, list[str]()
        self.started: list[tuple[str, Child, list[str]]] = []
        self.orders = {"worker": "", "supernode": ""}
        self.now = 1000.0
        monkeypatch.setattr(supervisor, "Child", self._child)
        monkeypatch.setattr(supervisor.time, "monotonic", lambda: self.now)
        pki.init(root / "pki", [])
        self.kit = pki.issue(root / "pki", "clinic")
        self.supervisor = self.another()

    def another(self, **changes: Any) -> SiloSupervisor:
        given = {
            "name": "clinic",
            "folder": self.root / "silo",
            "server": SERVER,
            "kit": self.kit,
            "insecure": False,
        }
        return SiloSupervisor(**{**given, "worker_settings": {"threads": 2}, "say": self.said.append, **changes})

    def _child(self, argv: list[str], *, log: Path, **options: Any) -> Child:
        orders = self.root / f"{log.stem}.orders"
        orders.write_text(self.orders[log.stem])
        child = Child([sys.executable, "-I", "-S", "-c", STAND_IN, str(orders)], log=log, **options)
        self.started.append((log.stem, child, argv))
        return child

    def count(self, kind: str) -> int:
        return sum(name == kind for name, _, _ in self.started)

    def check(self, until: Callable[[], Any]) -> None:
        """Looks after the silo, at the same moment of its clock, until something is so."""
        end = time.time() + 300
        while not until():
            assert time.time() < end, (self.said, self.supervisor.state)
            self.supervisor.check()
            time.sleep(0.01)

    def hear(self, *lines: str) -> None:
        """The SuperNode logs this."""
        assert self.supervisor.node is not None
        with self.supervisor.node.log.open("a") as log:
            log.write("".join(f"{line}\n" for line in lines))
        self.supervisor.check()

    def file(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "silo" / "silo.json").read_text())
        return found


def connect(silo: Silo) -> None:
    silo.hear(ID)
    assert silo.supervisor.state == "connected"
