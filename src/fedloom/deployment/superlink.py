"""The server host: a SuperLink of ours, the silos it admits, and Flower's commands against it."""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedloom.deployment import pki
from fedloom.deployment.flower_cli import FlowerCli
from fedloom.deployment.offline import engine_environment, require_flower
from fedloom.deployment.processes import Child, free_port
from fedloom.deployment.settings import HostSettings
from fedloom.deployment.superlink_process import ALERT
from fedloom.errors import BadInput, FedloomError
from fedloom.runs.disk import json_text, locked, read_object, write_atomic

FOLDER = "FEDLOOM_SERVER"  # the environment variable that names the server's folder to its runs
_START = 60.0  # seconds a SuperLink has to answer
_QUIET = 30.0  # seconds for which the same line is not said again
_CLIENT = re.compile(r'(\S+):\d+ - "POST (/v1/fleet/\S+) HTTP/[\d.]+" (\d+)')
_NODE = re.compile(r"\[Fleet\.(Activate|Deactivate)Node\] \w+ node_id=(\d+)")


class Host:
    """A server that is up, as its own folder describes it."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder.resolve(), address
        self.environment = {**engine_environment(self.folder / "flower"), FOLDER: str(self.folder)}
        self._cli = FlowerCli(self.environment)

    @classmethod
    def attach(cls, folder: Path | str) -> Host:
        """The server in `folder`. Raises BadInput when there is none, or it is not up."""
        require_flower()
        file = Path(folder) / "host.json"
        if not file.is_file():
            raise BadInput(
                f"{folder} is no server's folder: it has no host.json. `fedloom server up` makes it"
            )
        said = read_object(file)
        if not _alive(said.get("pid")):
            raise BadInput(f"the server of {folder} is not up: `fedloom server up --folder {folder}`")
        return cls(Path(folder), str(said["address"]))

    def flwr(self, *words: str) -> dict[str, Any]:
        """What Flower's command line says to `words`. Raises FedloomError."""
        return self._cli.call(*words)

    def silos(self) -> list[dict[str, Any]]:
        """The silos that are admitted: name, node, state (online, offline, registered)."""
        states = {str(node["node-id"]): node["status"] for node in self.flwr("supernode", "list")["nodes"]}
        names = {entry["node"]: name for name, entry in self._nodes().items()}
        rows = [
            {"name": names.get(node, "?"), "node": node, "state": state} for node, state in states.items()
        ]
        return sorted(rows, key=lambda row: str(row["name"]))

    def close(self) -> None:
        """Ends what this object started."""
        self._cli.close()

    def _nodes(self) -> dict[str, dict[str, str]]:
        file = self.folder / "nodes.json"
        return read_object(file) if file.is_file() else {}


class SuperLink(Host):
    """A SuperLink that lives as long as this context. `say` is told, in a line each, who comes and who is refused.

    Raises BadInput for keys that do not do, or a folder in use; FedloomError when the SuperLink does not start.
    """

    def __init__(self, settings: HostSettings, say: Callable[[str], None] = lambda line: None) -> None:
        require_flower()
        self.settings, self.say = settings, say
        self.pki = None if settings.insecure else Path(settings.pki or "pki")
        self.reach = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        self.port = settings.port or free_port(self.reach)
        folder = Path(settings.folder)
        for part in ("flower", "logs", "runs", "jobs"):
            (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(folder, f"{self.reach}:{self.port}")
        self._stack = ExitStack()
        self._reader = _Reader(self)

    def __enter__(self) -> Self:
        if self.pki is not None:
            pki.check(self.pki)
        try:
            self._stack.enter_context(locked(self.folder / ".lock", wait=False))
        except BlockingIOError:
            raise BadInput(f"{self.folder} is the folder of a server that is up already") from None
        try:
            self._stack.callback(self.close)
            self._start()
            self.admit()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Admits new keys, takes out revoked ones, tells what the log says. Raises FedloomError when it ended."""
        if not self._child.alive():
            raise FedloomError(f"the SuperLink ended ({self._child.fate()}): {_reason(self._child.said())}")
        self.admit()
        self._reader.read()

    def admit(self) -> None:
        """Registers each key of the pki folder that is not yet, and takes out those that were revoked."""
        if self.pki is None:
            return
        known, before = self._nodes(), self._nodes()
        holders = {holder.name: holder.key for holder in self._holders()}
        for name, entry in before.items():
            if holders.get(name) != entry["key"]:
                self.flwr("supernode", "unregister", entry["node"])
                del known[name]
                self.say(f"silo {name} is not admitted any more: its key was revoked")
        for name, key in holders.items():
            if name not in known:
                said = self.flwr("supernode", "register", str(self.pki / "silos" / name / "node.pub"))
                known[name] = {"key": key, "node": str(said["node-id"])}
                self.say(f"silo {name} is admitted")
        if known != before:
            write_atomic(self.folder / "nodes.json", json_text(known))

    def _holders(self) -> list[pki.Holder]:
        assert self.pki is not None
        folder = self.pki / "silos"
        stamp = folder.stat().st_mtime_ns if folder.exists() else 0
        if getattr(self, "_stamp", None) != stamp:  # certificates are parsed only when a kit came or went
            self._stamp, self._listed = stamp, pki.listing(self.pki)
        return self._listed

    def _start(self) -> None:
        if not self.settings.database and (self.folder / "nodes.json").exists():
            (self.folder / "nodes.json").unlink()
        connection = f'[superlink]\ndefault = "fedloom"\n\n[superlink.fedloom]\naddress = "{self.address}"\n'
        words = ["--host", self.settings.host, "--port", str(self.port), "--isolation", "subprocess"]
        words += ["--disable-runtime-dependency-installation"]
        if self.settings.database:
            words += ["--database", str(self.folder / "flower" / "state.db")]
        if self.pki is None:
            connection += "insecure = true\n"
            words += ["--insecure"]
        else:
            root = (self.pki / "ca.crt").resolve()
            connection += f"root-certificates = {json.dumps(str(root))}\n"
            words += ["--ssl-certfile", str((self.pki / "server.crt").resolve())]
            words += ["--ssl-keyfile", str((self.pki / "server.key").resolve())]
            words += ["--ssl-ca-certfile", str(root), "--enable-supernode-auth"]
        write_atomic(self.folder / "flower" / "config.toml", connection)
        self._child = Child(
            [sys.executable, "-P", "-m", "fedloom.deployment.superlink_process", *words],
            log=self.folder / "logs" / "superlink.log",
            env=self.environment,
            cwd=self.folder,
        )
        self._stack.callback(self._child.stop)
        self._stack.callback((self.folder / "host.json").unlink, missing_ok=True)
        self._await()
        self._reader.at = self._child.log_start
        write_atomic(
            self.folder / "host.json",
            json_text({"address": self.address, "pid": os.getpid(), "superlink": self._child.pid}),
        )

    def _await(self) -> None:
        """Returns once the SuperLink answers."""
        context = None if self.pki is None else ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        url = f"{'http' if self.pki is None else 'https'}://{self.address}/health"
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if not self._child.alive():
                raise FedloomError(f"the SuperLink does not start: {_reason(self._child.said())}")
            try:
                urllib.request.urlopen(url, timeout=2, context=context).close()
                return
            except OSError:
                time.sleep(0.05)
        raise FedloomError(f"the SuperLink does not answer at {self.address} within {_START:g} s")


class _Reader:
    """Puts what a SuperLink's log says of silos in our own words, once."""

    def __init__(self, link: SuperLink) -> None:
        self.link, self.at = link, 0
        self._refusal = ""
        self._said: dict[str, float] = {}

    def read(self) -> None:
        with (self.link.folder / "logs" / "superlink.log").open("rb") as file:
            file.seek(self.at)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self.at += whole
        for line in new[:whole].decode(errors="replace").splitlines():
            self._line(line)

    def _line(self, line: str) -> None:
        if "No SuperNode found with the given public key" in line:
            self._refusal = "its key is not registered; `fedloom pki issue NAME` gives a silo one"
        elif "could not be activated" in line:
            self._refusal = "it is held to be connected already; one that crashed is, for up to a minute"
        elif line.startswith(ALERT):
            alert = line.removeprefix(ALERT).replace("_", " ")
            self._say(f"a client turned away: it does not trust this server's certificate ({alert})")
        elif (found := _NODE.search(line)) is not None:
            came, node = found.groups()
            names = {entry["node"]: name for name, entry in self.link._nodes().items()}
            self._say(
                f"silo {names.get(node, node)} {'connected' if came == 'Activate' else 'left'}", again=True
            )
        elif (found := _CLIENT.search(line)) is not None and found[3] in ("401", "403", "412"):
            why = (
                self._refusal if found[3] == "412" else "its signature is not that of a silo that is admitted"
            )
            self._say(f"refused a silo at {found[1]}: {why or found[3]}")
            self._refusal = ""

    def _say(self, line: str, *, again: bool = False) -> None:
        now = time.monotonic()
        if again or now - self._said.get(line, -_QUIET) >= _QUIET:
            self._said[line] = now
            self.link.say(line)


def _reason(log: str) -> str:
    """What a log ends with, in one line: the last that names an error, else the last of all."""
    plain = re.sub(r"\x1b\[\d+m", "", log)
    lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.search(r"error|exit code|cannot|in use|invalid", line, re.IGNORECASE)
    ]
    return (telling or lines or ["no word"])[-1][-300:]


def _alive(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return False
    except PermissionError:
        return True
    return True
