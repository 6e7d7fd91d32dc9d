"""Looks after a silo's two processes: the worker that holds its models, the SuperNode that listens to the server."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedloom.deployment import pki
from fedloom.deployment.certificates import write_new
from fedloom.deployment.offline import engine_environment, require_flower
from fedloom.deployment.ports import free_port, speaks_tls
from fedloom.deployment.supernode_log import AGAIN, CONNECTED, FAILING, refusal
from fedloom.deployment.supernode_process import REFUSED
from fedloom.errors import BadInput, FedloomError
from fedloom.processes.child import Child
from fedloom.runs.disk import explained, json_text, locked, read_object, write_atomic

INITIALISER = "fedloom.experiment.clients:settle_worker"  # of workers
PAUSE = 10.0  # seconds between tries to connect; a crashed silo counts as connected for up to 60
_LONGEST = 30.0  # seconds at most before a worker that keeps dying is restarted
_STEADY = 60.0  # seconds after which a running worker counts as healthy
_SLOW = 15.0  # seconds after which a server that does not answer is spoken of
# In the worker's log: what could not be done, and what was beyond the silo's bounds.
_FAILED = re.compile(r"[\d:]{8} ((?:join|rewind|finish): .*|round .*: refused: beyond this silo's bounds: .*)")
_GRACE = 4.0  # seconds to end in; a SuperNode whose server is gone would take leave of it for longer


class SiloSupervisor:
    """Starts a silo's two processes and starts them again when they die, as long as `check` is called.

    folder: the silo's own. server: host:port. kit: from `pki.issue`; None only if `insecure`. worker_settings: see
    `federation.silo.resident`. say: is told what happens, a line each.

    state: starting, connecting, connected, waiting (for a server that does not answer, or not let it in again yet),
    refused, stopped; with process ids also in the folder's silo.json.

    Raises BadInput for a kit that cannot be used, or a folder in use.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        server: str,
        kit: Path | None,
        insecure: bool,
        worker_settings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        require_flower()
        self.name, self.folder, self.server, self.say = name, folder.resolve(), server, say
        self.insecure, self.kit = insecure, None if kit is None else kit.resolve()
        self.settings = dict(worker_settings)
        self.state = "starting"
        self.worker: Child | None = None
        self.node: Child | None = None
        self._stack = ExitStack()
        self._worker_began, self._worker_waits, self._worker_due = 0.0, 0.5, 0.0
        self._node_due = 0.0
        self._failing = 0.0  # since when the SuperNode tries in vain; 0: it does not
        self._said: set[str] = set()
        self._refusals = 0

    def start(self) -> None:
        """Starts both processes, and returns before they are ready."""
        if self.kit is not None:
            pki.check_kit(self.kit)
        elif not self.insecure:
            raise BadInput("a silo needs a kit (`fedloom pki issue NAME` on the server), or --insecure in a test")
        with explained("make the silo's folder", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.folder / "logs").mkdir(exist_ok=True, mode=0o700)
        in_use = f"{self.folder} is the folder of a silo that is up already"
        self._stack.enter_context(locked(self.folder / ".lock", busy=in_use))
        # A short path of our own: a socket's may have some hundred bytes, and others may not look in.
        room = Path(tempfile.mkdtemp(prefix="fedloom-"))
        self._stack.callback(shutil.rmtree, room, ignore_errors=True)
        self.socket, self.token = room / "worker", self.folder / "token"
        self.token.unlink(missing_ok=True)
        self._stack.callback(self.token.unlink, missing_ok=True)
        write_new(self.token, secrets.token_bytes(32), private=True)
        write_atomic(self.folder / "worker.json", json.dumps(self.settings).encode())
        self._start_worker()
        self._start_node()

    def ask_to_stop(self) -> None:
        """Asks both processes to end, and does not wait."""
        for child in (self.node, self.worker):
            if child is not None:
                child.ask_to_stop()

    def stop(self) -> None:
        """Ends both processes; may be called twice."""
        self.ask_to_stop()
        was_up = self.worker is not None
        for child in (self.node, self.worker):
            if child is not None:
                child.stop(_GRACE)
        self.worker = self.node = None
        if was_up:
            self._set_state("stopped")
        self._stack.close()

    def check(self) -> None:
        """Looks at both processes. Raises FedloomError when the server refuses a silo it has never let in."""
        assert self.worker is not None
        now = time.monotonic()
        for line in self.worker.new_lines():
            if found := _FAILED.match(line):
                self.say(f"silo {self.name}: {found[1]}")
        if self.worker.alive():
            if now - self._worker_began > _STEADY:
                self._worker_waits = 0.5
        elif not self._worker_due:
            ended, last = self.worker.exit_reason(), self.worker.last_words()
            self.worker.stop()
            waits = self._worker_waits
            self.say(f"silo {self.name}: the worker's {ended} ({last}); restarting it in {waits:g} s")
            self._worker_due = now + self._worker_waits
            self._worker_waits = min(_LONGEST, 2 * self._worker_waits)
        elif now >= self._worker_due:
            self._start_worker()
        self._check_node(now)

    # ---------------------------------------------------------------------------------------------- within

    def _check_node(self, now: float) -> None:
        if self.node is None:
            if now >= self._node_due:
                self._start_node()
            return
        for line in self.node.new_lines():
            self._read_line(line, now)
        if not self.node.alive():
            self._node_ended(self.node)
            self.node.stop()
            self.node, self._node_due = None, now + PAUSE
        elif self._failing and now - self._failing > _SLOW:
            self._set_state("waiting")
            self._once(f"silo {self.name}: {self.server} does not answer; trying on")

    def _read_line(self, line: str, now: float) -> None:
        """Notes what a line of the SuperNode's log says about the connection."""
        if CONNECTED in line:
            self._failing, self._joined = 0.0, True
            self._connected()
        elif AGAIN in line:
            self._failing = 0.0
            if self._joined and self.state == "waiting":
                self._connected()
        elif FAILING in line:
            if self.kit is None and not self._failing and speaks_tls(self.server):
                self._set_state("refused")  # Flower would try for ever, and does not say why
                raise FedloomError(
                    f"silo {self.name}: the server at {self.server} requires TLS and a key, and this silo has neither: "
                    f"use a kit instead of --insecure"
                )
            self._failing = self._failing or now
        elif line.startswith(REFUSED):
            self._once(f"silo {self.name}: the server sent code that is not fedloom's; it was not run")

    def _connected(self) -> None:
        self._said.clear()
        self._set_state("connected")
        write_atomic(self.folder / "admitted", self.server)
        self.say(f"silo {self.name} is connected to {self.server}")

    def _node_ended(self, node: Child) -> None:
        """Says why the SuperNode ended; raises where trying again cannot help."""
        file = self.folder / "admitted"
        known = file.is_file() and file.read_text() == self.server
        found = refusal(node.logged(), self.server, self.kit)
        if found is None:
            self._set_state("connecting")
            ended = f"{node.exit_reason()} ({node.last_words()})"
            self.say(f"silo {self.name}: the SuperNode's {ended}; restarting it in {PAUSE:g} s")
        elif not known and found.may_pass and not self._refusals:
            self._refusals += 1
            self._set_state("waiting")
            self.say(
                f"silo {self.name}: {found.line}; retrying in {PAUSE:g} s: a starting server admits its silos last"
            )
        elif not known:
            self._set_state("refused")
            raise FedloomError(f"silo {self.name}: {found.line}")
        elif found.may_pass:
            self._set_state("waiting")
            self._once(
                f"silo {self.name}: the server still counts it as connected, or revoked its key; "
                f"retrying every {PAUSE:g} s"
            )
        else:
            self._set_state("refused")
            self._once(f"silo {self.name}: {found.line}; retrying every {PAUSE:g} s")

    def _start_worker(self) -> None:
        self._worker_due, self._worker_began = 0.0, time.monotonic()
        options = {"folder": self.folder / "state", "socket": self.socket, "token": self.token}
        options |= {"settings": self.folder / "worker.json"}
        threads = int(self.settings.get("threads", 1))
        self.worker = Child(
            [sys.executable, "-P", "-m", "fedloom.federation.engines.silo.resident"]
            + [f"--{name}={value}" for name, value in options.items()],
            log=self.folder / "logs" / "worker.log",
            env=engine_environment(self.folder / "flower", threads),
            stdin=True,
        )
        self._set_state(self.state)

    def _start_node(self) -> None:
        self._failing, self._joined = 0.0, False
        config = {"silo": self.name, "socket": str(self.socket), "token": str(self.token)}
        words = ["--superlink", self.server, "--host", "127.0.0.1", "--port", str(free_port())]
        words += ["--isolation", "subprocess"]
        words += ["--node-config", " ".join(f"{k}={json.dumps(v)}" for k, v in config.items())]
        if self.kit is None:
            words += ["--insecure"]
        else:
            for option, name in (
                ("root-certificates", "ca.crt"),
                *(("ssl-certfile", "local.crt"), ("ssl-keyfile", "local.key"), ("ssl-ca-certfile", "local.ca")),
                ("auth-supernode-private-key", "node.key"),
            ):
                words += [f"--{option}", str(self.kit / name)]
        self.node = Child(
            [sys.executable, "-P", "-m", "fedloom.deployment.supernode_process", *words],
            log=self.folder / "logs" / "supernode.log",
            env=engine_environment(self.folder / "flower"),
            cwd=self.folder,
        )
        self._set_state("connecting")

    def _set_state(self, state: str) -> None:
        """Writes the silo's status into its folder."""
        self.state = state
        pids = {"worker": self.worker, "supernode": self.node}
        own = None if state == "stopped" else os.getpid()
        facts = {"name": self.name, "server": self.server, "state": state, "pid": own}
        facts |= {"kit": None if self.kit is None else str(self.kit)}
        facts |= {f"{name}_pid": None if child is None else child.pid for name, child in pids.items()}
        file = self.folder / "silo.json"
        if read_object(file) != facts:
            write_atomic(file, json_text(facts))

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.say(line)
