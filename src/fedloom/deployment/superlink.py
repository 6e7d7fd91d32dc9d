"""The server host: a SuperLink of ours, the silos it admits, and Flower's commands against it."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from fedloom.config.silo import HostSettings
from fedloom.deployment import pki
from fedloom.deployment.flower_cli import FlowerCli
from fedloom.deployment.job import SERVER_FOLDER
from fedloom.deployment.offline import engine_environment, require_flower
from fedloom.deployment.ports import check_port, free_port
from fedloom.deployment.shapes import HostRecord, read_nodes
from fedloom.deployment.superlink_log import LISTENING, Reader
from fedloom.errors import BadInput, FedloomError
from fedloom.processes.child import Child
from fedloom.runs.disk import explained, is_held, json_text, locked, read_object, write_atomic

_START = 60.0  # seconds a SuperLink has to answer
_TAKEN = "Public key already in use"  # of a key that Flower has, or has ever had
_GONE = "unregistered"  # Flower's word for a node that was taken out
_WIDE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # all addresses of the machine -> one that reaches it from itself


class Host:
    """A server that is up, as its own folder describes it. A context: what it started ends with it."""

    def __init__(self, folder: Path, address: str, pki: Path | None = None) -> None:
        self.folder, self.address, self.pki = folder.resolve(), address, pki

    @classmethod
    def attach(cls, folder: Path | str) -> Host:
        """The server in `folder`. Raises BadInput when there is none, or it is not up."""
        require_flower()
        place = Path(folder)
        with explained("read", place):
            known, up = (place / ".lock").is_file(), (place / "host.json").is_file()
        if not known:
            raise BadInput(f"{folder} is no server's folder: it has no host.json. `fedloom server up` makes it")
        if not up or not is_held(place / ".lock"):
            raise BadInput(f"the server of {folder} is not up: `fedloom server up --folder {folder}`")
        found = read_object(place / "host.json", HostRecord)
        keys = found.get("pki")
        return cls(place, str(found["address"]), None if keys is None else Path(keys))

    @cached_property
    def environment(self) -> dict[str, str]:
        """Of the processes that belong to the server."""
        return {**engine_environment(self.folder / "flower"), SERVER_FOLDER: str(self.folder)}

    @cached_property
    def _cli(self) -> FlowerCli:
        return FlowerCli(self.environment, self.folder / "logs" / "flwr.log")

    def flwr(self, *words: str) -> dict[str, Any]:
        """What Flower's command line says to `words`. Raises FedloomError."""
        return self._cli.call(*words)

    def silos(self) -> list[dict[str, Any]]:
        """The silos that are admitted: name, node, state (online, offline, registered)."""
        states, names = self._states(), self.names()  # in this order: who is admitted meanwhile has a name
        rows = [{"name": names.get(node, "?"), "node": node, "state": state} for node, state in states.items()]
        return sorted(rows, key=lambda row: str(row["name"]))

    def names(self) -> dict[str, str]:
        """Silos by their nodes."""
        return {entry["node"]: name for name, entry in self._nodes().items()}

    def close(self) -> None:
        """Ends what this object started; may be called twice."""
        self._cli.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _states(self) -> dict[str, str]:
        nodes = self.flwr("supernode", "list")["nodes"]
        return {str(node["node-id"]): node["status"] for node in nodes if node["status"] != _GONE}

    def _nodes(self) -> dict[str, dict[str, str]]:
        """Name -> key and node of each silo that is admitted."""
        return read_nodes(self.folder / "nodes.json")


class SuperLink(Host):
    """A SuperLink that lives as long as this context. `say` is told, in a line each, who comes and who is refused.

    Raises BadInput for keys that cannot be used, or a folder in use; FedloomError when the SuperLink does not start.
    """

    def __init__(self, settings: HostSettings, say: Callable[[str], None] = lambda line: None) -> None:
        require_flower()
        self.settings, self.say = settings, say
        keys = None if settings.insecure else Path(os.path.expanduser(settings.pki or "pki")).resolve()
        self.reach = _WIDE.get(settings.host, settings.host)
        self.port = settings.port or free_port(self.reach)
        shown = f"[{self.reach}]" if ":" in self.reach else self.reach
        super().__init__(Path(os.path.expanduser(settings.folder)), f"{shown}:{self.port}", keys)
        self._stack = ExitStack()
        self._unfit: dict[str, str] = {}  # name -> a key that Flower does not take
        self._reader = Reader(say, self.names)

    def __enter__(self) -> Self:
        if self.pki is not None:
            pki.check(self.pki)
            pki.check_host(self.pki, self.reach)
        lock = self.folder / ".lock"
        in_use = f"{self.folder} is the folder of a server that is up already"
        if lock.exists() and is_held(lock):
            raise BadInput(in_use)
        check_port(self.settings.host, self.port)
        with self._stack:
            with explained("make the server's folder", self.folder):
                for part in ("", "flower", "logs", "runs", "jobs"):
                    (self.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._stack.enter_context(locked(lock, busy=in_use))
            self._stack.callback(self.close)
            self._start()
            self._reconcile()
            self.admit()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Admits new keys, takes out revoked ones, tells what the log says. Raises FedloomError when it ended."""
        if not self._child.alive():
            raise FedloomError(f"the SuperLink ended ({self._child.exit_reason()}): {self._child.last_words()}")
        self.admit()
        self._reader.read(self._child.new_lines())

    def admit(self) -> None:
        """Registers each key of the pki folder that is not yet, and takes out those that were revoked.

        A key that Flower does not take is told and left alone: a server that is up does not end for a bad kit.
        """
        if self.pki is None:
            return
        known, holders = self._nodes(), pki.keys(self.pki)
        for name in [name for name, entry in known.items() if holders.get(name) != entry["key"]]:
            self.flwr("supernode", "unregister", known.pop(name)["node"])
            self._keep(known)
            self.say(f"silo {name} is no longer admitted: its key was revoked")
        for name, key in holders.items():
            if name not in known and self._unfit.get(name) != key:
                node, why = self._register(name)
                if node is None:
                    self._unfit[name] = key
                    self.say(f"silo {name} is not admitted: {why}")
                else:
                    self._welcome(name, key, node, known)

    # ---------------------------------------------------------------------------------------------- within

    def _register(self, name: str) -> tuple[str | None, str]:
        """The new node of that silo, or None and why Flower does not take its key."""
        assert self.pki is not None
        try:
            said = self.flwr("supernode", "register", str(self.pki / "silos" / name / "node.pub"))
        except FedloomError as error:
            spent = "its key was admitted and taken back before; `fedloom pki revoke` it, and issue it anew"
            return None, spent if _TAKEN in str(error) else str(error)
        return str(said["node-id"]), ""

    def _welcome(self, name: str, key: str, node: str, known: dict[str, dict[str, str]]) -> None:
        known[name] = {"key": key, "node": node}
        self._keep(known)
        self.say(f"silo {name} is admitted")

    def _keep(self, nodes: dict[str, dict[str, str]]) -> None:
        write_atomic(self.folder / "nodes.json", json_text(nodes))

    def _reconcile(self) -> None:
        """Has Flower's own list of nodes and ours of names say the same, also after a crash between the two.

        Flower tells nobody whose key a node has, and takes a key once: to unregister the node of a silo that is to be
        admitted would lock it out for good. A crash leaves one node at most that is not in our list.
        """
        if self.pki is None:
            return
        there, holders = self._states(), pki.keys(self.pki)
        known = {name: entry for name, entry in self._nodes().items() if entry["node"] in there}
        self._keep(known)
        lost = there.keys() - {entry["node"] for entry in known.values()}
        taken = []
        for name in [name for name in holders if lost and name not in known]:
            node, _ = self._register(name)
            if node is None:
                taken.append(name)
            else:
                self._welcome(name, holders[name], node, known)
        if not taken:
            for node in lost:
                self.flwr("supernode", "unregister", node)
        elif len(taken) == len(lost) == 1:
            self._welcome(taken[0], holders[taken[0]], lost.pop(), known)
        else:
            raise FedloomError(
                f"{self.folder / 'nodes.json'} does not say which of {len(lost)} nodes in flower/state.db beside it "
                f"are {', '.join(taken)}; with both files removed, all silos are admitted again"
            )

    def _start(self) -> None:
        connection = f'[superlink]\ndefault = "fedloom"\n\n[superlink.fedloom]\naddress = "{self.address}"\n'
        words = ["--host", self.settings.host, "--port", str(self.port), "--isolation", "subprocess"]
        words += ["--disable-runtime-dependency-installation"]
        if self.settings.database:
            words += ["--database", str(self.folder / "flower" / "state.db")]
        if self.pki is None:
            connection += "insecure = true\n"
            words += ["--insecure"]
        else:
            root = self.pki / "ca.crt"
            connection += f"root-certificates = {json.dumps(str(root))}\n"
            words += ["--ssl-certfile", str(self.pki / "server.crt")]
            words += ["--ssl-keyfile", str(self.pki / "server.key")]
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
        facts = {"address": self.address, "pid": os.getpid(), "superlink": self._child.pid, "pki": self.pki}
        facts["clients"] = self.settings.clients
        write_atomic(self.folder / "host.json", json_text(facts))

    def _await(self) -> None:
        """Returns once the SuperLink answers, and it is ours: it has said itself that it has the port."""
        context = None if self.pki is None else ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        url = f"{'http' if self.pki is None else 'https'}://{self.address}/health"
        straight = urllib.request.ProxyHandler({})  # the environment's proxies are for the world outside
        opener = urllib.request.build_opener(straight, urllib.request.HTTPSHandler(context=context))
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if not self._child.alive():
                raise FedloomError(f"the SuperLink does not start: {self._child.last_words()}")
            if LISTENING in self._child.logged():
                try:
                    opener.open(url, timeout=2).close()
                    return
                except (OSError, http.client.HTTPException) as error:
                    why = getattr(error, "reason", None)
                    if isinstance(why, ssl.SSLCertVerificationError):
                        raise BadInput(
                            f"{self.pki}/server.crt is not one of the authority {self.pki}/ca.crt: {why.verify_message}"
                        ) from None
            time.sleep(0.05)
        raise FedloomError(f"the SuperLink does not answer at {self.address} within {_START:g} s")
