"""A silo's processes: the resident worker that holds its models, and the SuperNode that listens to the server."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedloom.deployment import pki
from fedloom.deployment.offline import engine_environment, require_flower
from fedloom.deployment.processes import Child, free_port
from fedloom.deployment.settings import SiloSettings
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.files import replace_file
from fedloom.runs.disk import json_text, locked, read_object, write_atomic

PAUSE = 10.0  # seconds between tries to connect; a crashed silo is held to be connected for up to 60
_LONGEST = 30.0  # seconds at most before a worker that keeps dying is started again
_STEADY = 60.0  # seconds after which a worker that runs is held to be well
_SLOW = 15.0  # seconds after which a server that does not answer is spoken of


class SiloSupervisor:
    """Starts a silo's two processes and starts them again when they die, as long as `check` is called.

    folder: the silo's own. server: host:port. kit: from `pki.issue`; None only if `insecure`. worker_settings: see
    `federation.silo.resident`. say: is told what happens, a line each.

    Raises BadInput for a kit that does not do, or a folder in use.
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
        self.name, self.folder, self.server, self.insecure, self.say = (
            name,
            folder.resolve(),
            server,
            insecure,
            say,
        )
        self.kit = None if kit is None else kit.resolve()
        self.settings = dict(worker_settings)
        self.state = "starting"
        self.worker: Child | None = None
        self.node: Child | None = None
        self._stack = ExitStack()
        self._worker_began, self._worker_waits, self._worker_due = 0.0, 0.5, 0.0
        self._node_began, self._node_due = 0.0, 0.0
        self._spoken: set[str] = set()

    def start(self) -> None:
        """Starts both processes, and returns before they are ready."""
        if self.kit is not None:
            pki.check_kit(self.kit)
        elif not self.insecure:
            raise BadInput(
                "a silo needs a kit (`fedloom pki issue NAME` on the server), or --insecure in a test"
            )
        (self.folder / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._stack.enter_context(locked(self.folder / ".lock", wait=False))
        except BlockingIOError:
            raise BadInput(f"{self.folder} is the folder of a silo that is up already") from None
        # A short path of our own: a socket's may have some hundred bytes, and others may not look in.
        room = Path(tempfile.mkdtemp(prefix="fedloom-"))
        self._stack.callback(shutil.rmtree, room, ignore_errors=True)
        self.socket, self.token = room / "worker", self.folder / "token"
        self.token.unlink(missing_ok=True)
        handle = os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
        replace_file(self.folder / "worker.json", json.dumps(self.settings).encode())
        self._start_worker()
        self._start_node()

    def stop(self) -> None:
        """Ends both processes; may be called twice."""
        for child in (self.node, self.worker):
            if child is not None:
                child.stop()
        if self.worker is not None:
            self._stand("stopped")
        self.worker = self.node = None
        self._stack.close()

    def check(self) -> None:
        """Looks at both processes. Raises FedloomError when the server refuses a silo it has never let in."""
        assert self.worker is not None
        now = time.monotonic()
        if self.worker.alive():
            if now - self._worker_began > _STEADY:
                self._worker_waits = 0.5
        elif not self._worker_due:
            self.say(f"silo {self.name}: the worker {self.worker.fate()}; it is started again")
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
        elif not self.node.alive():
            self._node_ended(self.node.said())
            self.node.stop()
            self.node = None
            self._node_due = now + PAUSE
        elif self.state != "connected":
            said = self.node.said()
            if "SuperNode ID:" in said:
                self._spoken.clear()
                self._stand("connected")
                (self.folder / "admitted").touch()
                self.say(f"silo {self.name} is connected to {self.server}")
            elif now - self._node_began > _SLOW and "Connection attempt failed" in said:
                self._once(f"silo {self.name}: {self.server} does not answer; trying on")

    def _node_ended(self, said: str) -> None:
        """Says why the SuperNode ended; raises where trying again cannot help."""
        known = (self.folder / "admitted").exists()
        if "CERTIFICATE_VERIFY_FAILED" in said:
            found = re.search(r"certificate verify failed: ([^(\n]*)", said)
            why = f" ({found[1].strip()})" if found else ""
            line = f"this silo does not trust the server at {self.server}, by {self.kit}/ca.crt{why}"
        elif "SSL/TLS handshake error" in said or "WRONG_VERSION_NUMBER" in said:
            line = f"the server at {self.server} does not speak TLS"
        elif "Failed to activate SuperNode" in said or "code: 2004" in said:
            line = "the server refused this silo: its key is not registered there (or is in use by another process)"
            if known:
                self._stand("waiting")
                self._once(
                    f"silo {self.name}: the server still holds it to be connected, or revoked its key; "
                    f"trying again every {PAUSE:g} s"
                )
                return
        else:
            assert self.node is not None
            self._stand("connecting")
            self.say(
                f"silo {self.name}: the SuperNode's {self.node.fate()}; it is started again in {PAUSE:g} s"
            )
            return
        self._stand("refused")
        if not known:
            raise FedloomError(f"silo {self.name}: {line}")
        self._once(f"silo {self.name}: {line}; trying again every {PAUSE:g} s")

    def _start_worker(self) -> None:
        self._worker_due, self._worker_began = 0.0, time.monotonic()
        options = {
            "folder": self.folder / "state",
            "socket": self.socket,
            "token": self.token,
            "settings": self.folder / "worker.json",
        }
        threads = str(self.settings.get("threads", 1))
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        self.worker = Child(
            [sys.executable, "-P", "-m", "fedloom.federation.silo.resident"]
            + [f"--{name}={value}" for name, value in options.items()],
            log=self.folder / "logs" / "worker.log",
            env={**engine_environment(self.folder / "flower"), **limits},
            heartline=True,
        )
        self._stand(self.state)

    def _start_node(self) -> None:
        self._node_began = time.monotonic()
        config = {"silo": self.name, "socket": str(self.socket), "token": str(self.token)}
        words = ["--superlink", self.server, "--host", "127.0.0.1", "--port", str(free_port())]
        words += [
            "--isolation",
            "subprocess",
            "--node-config",
            " ".join(f"{k}={json.dumps(v)}" for k, v in config.items()),
        ]
        if self.kit is None:
            words += ["--insecure"]
        else:
            words += ["--root-certificates", str(self.kit / "ca.crt")]
            words += [
                "--ssl-certfile",
                str(self.kit / "local.crt"),
                "--ssl-keyfile",
                str(self.kit / "local.key"),
            ]
            words += ["--ssl-ca-certfile", str(self.kit / "local.ca")]
            words += ["--auth-supernode-private-key", str(self.kit / "node.key")]
        self.node = Child(
            [str(Path(sys.executable).parent / "flower-supernode"), *words],
            log=self.folder / "logs" / "supernode.log",
            env=engine_environment(self.folder / "flower"),
            cwd=self.folder,
        )
        self._stand("connecting")

    def _stand(self, state: str) -> None:
        """Writes how the silo stands into its folder."""
        self.state = state
        pids = {"worker": self.worker, "supernode": self.node}
        facts = {"name": self.name, "server": self.server, "state": state, "pid": os.getpid()}
        facts |= {f"{name}_pid": None if child is None else child.pid for name, child in pids.items()}
        file = self.folder / "silo.json"
        if not file.is_file() or read_object(file) != facts:
            write_atomic(file, json_text(facts))

    def _once(self, line: str) -> None:
        if line not in self._spoken:
            self._spoken.add(line)
            self.say(line)


@contextmanager
def supervise(settings: SiloSettings, say: Callable[[str], None]) -> Iterator[SiloSupervisor]:
    """A silo with its own recipe, up as long as this context. Raises BadInput for settings that do not do."""
    from fedloom.silos import describe_silo

    dump = settings.model_dump(mode="json")
    dump["data"]["root"] = _absolute(settings.data.root)
    recipe = {
        "modality": settings.modality,
        "prepare": "fedloom.silos:prepare_run",
        "factory": "fedloom.silos:build_silo_client",
        "arguments": {"silo": dump},
        "about": describe_silo(dump),
    }
    supervisor = SiloSupervisor(
        settings.name,
        Path(settings.folder),
        settings.server,
        None if settings.insecure else Path(settings.kit or "kit"),
        settings.insecure,
        {
            "name": settings.name,
            "threads": settings.threads,
            "initialiser": "fedloom.sites:settle_worker",
            "private_errors": settings.private_errors,
            "keep": settings.keep,
            "recipe": recipe,
        },
        say,
    )
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


def _absolute(root: str | None) -> str | None:
    """The data's folder as the worker finds it, which runs elsewhere. Raises BadInput when it is not there."""
    if root is None:
        return None
    if not Path(root).expanduser().exists():
        raise BadInput(f"data.root = {root!r}: there is no such folder")
    return str(Path(root).expanduser().resolve())
