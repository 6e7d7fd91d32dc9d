"""A server and its silos as the page shows them: who is up, who came and left, runs, certificates about to end."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from fedloom.deployment.shapes import read_nodes
from fedloom.deployment.submit import jobs
from fedloom.deployment.superlink import Host
from fedloom.deployment.superlink_log import Reader
from fedloom.deployment.validity import of_server
from fedloom.errors import FedloomError
from fedloom.reporting.pages import Cell, Table
from fedloom.watch.files import Mark, mark_of
from fedloom.watch.views import View, section, table

PACE = 2.0  # seconds between two questions to the SuperLink
PATIENCE = 20.0  # seconds without a reader after which nothing is asked any more
EVENTS = 60  # that are shown
UP = {"online": "up", "offline": "down"}  # Flower's word -> how it is coloured


class FederationWatch:
    """A server's folder, looked at again and again. What the SuperLink alone knows, a thread asks it for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silos: list[dict[str, Any]] = []
        self.problem, self.address, self.ends = "", "", list[str]()
        self.events: list[str] = []
        self._since: dict[str, tuple[str, str]] = {}  # silo -> its state, and when that was seen first
        self._said, self._read, self._live = 0, 0, False
        self._reader = Reader(self._note, self._names)
        self._looked, self._thread = 0.0, threading.Thread(target=self._ask, daemon=True)

    def mark(self) -> Mark:
        """What changes when the view does."""
        self._looked = time.monotonic()
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        return self._said, *mark_of(self.path / "nodes.json", *sorted((self.path / "jobs").glob("*")))

    def view(self) -> View:
        """Everything that the page shows."""
        runs = jobs(self.path)
        up = sum(silo["state"] == "online" for silo in self.silos)
        facts = [f"{up} of {len(self.silos)} silos are up"] if self.address and self.silos else []
        facts += [f"server {self.address}"] if self.address else []
        return {
            "title": f"Federation {self.path.resolve().name}",
            "state": "down" if self.problem else "up" if self.address else "",
            "facts": [*facts, *([self.problem] if self.problem else [])],
            "folder": str(self.path),
            "alerts": [
                {"name": "certificate", "level": "caution", "message": line, "advice": ""} for line in self.ends
            ],
            "sections": [one for one in (self._silos(), self._jobs(runs), self._events()) if one],
        }

    def _silos(self) -> View | None:
        rows = []
        for silo in self.silos:
            state, since = self._since.get(silo["name"], (silo["state"], ""))
            rows.append((silo["name"], Cell(state, UP.get(state, "")), since))
        return section("Silos", "As the server sees them; a crashed one counts as up for up to a minute.",
                       table=table(Table(("Silo", "State", "Seen so since"), rows)))  # fmt: skip

    def _jobs(self, runs: list[dict[str, Any]]) -> View | None:
        rows = []
        for run in reversed(runs):
            folder = Path(run["folder"]) if run["folder"] else None
            inside = folder is not None and folder.resolve().is_relative_to(self.path.resolve())
            at = folder.resolve().relative_to(self.path.resolve()).as_posix() if folder and inside else ""
            done = "" if run["round"] is None else f"{run['round']}/{run['rounds']}"
            where = Cell(folder.name if folder else "", href=at)
            rows.append((run["id"], run["state"], done, where, run.get("error") or ""))
        return section("Runs", "", table=table(Table(("Job", "State", "Round", "Folder", ""), rows, numbers=(2,))))

    def _events(self) -> View | None:
        note = "By the server's log; with a time where it was seen here."
        return section("Who came and left", note, lines=self.events[-EVENTS:])

    # ------------------------------------------------------------------------------------- in a thread of its own

    def _ask(self) -> None:
        """Until nobody looks any more: what the SuperLink says, at its pace."""
        while time.monotonic() - self._looked < PATIENCE:
            try:
                with Host.attach(self.path) as host:
                    while time.monotonic() - self._looked < PATIENCE:
                        self._take(host.address, host.silos(), [] if host.pki is None else of_server(host.pki))
                        time.sleep(PACE)
            except (FedloomError, OSError) as error:
                self._lose(str(error))
                time.sleep(PACE)

    def _take(self, address: str, silos: list[dict[str, Any]], ends: list[str]) -> None:
        before = self.address, self.silos, self.ends, self.problem, len(self.events)
        self._look_at_log()
        for silo in silos:
            if self._since.get(silo["name"], ("",))[0] != silo["state"]:
                self._since[silo["name"]] = silo["state"], f"{datetime.now():%H:%M:%S}"
        self.address, self.silos, self.ends, self.problem = address, silos, ends, ""
        self._said += before != (address, silos, ends, "", len(self.events))

    def _lose(self, problem: str) -> None:
        """The server is not up: its silos by name alone."""
        names = [] if not (self.path / "nodes.json").is_file() else sorted(read_nodes(self.path / "nodes.json"))
        self.silos, self.address = [{"name": name, "state": "unknown"} for name in names], ""
        self._since.clear()
        self._said += problem != self.problem
        self.problem = problem

    def _look_at_log(self) -> None:
        log = self.path / "logs" / "superlink.log"
        if not log.is_file():
            return
        with log.open("rb") as file:
            file.seek(self._read if log.stat().st_size >= self._read else 0)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        self._reader.read(new[:whole].decode(errors="replace").splitlines())
        self._live = True

    def _note(self, line: str) -> None:
        self.events.append(f"{datetime.now():%H:%M:%S} {line}" if self._live else line)

    def _names(self) -> dict[str, str]:
        try:
            nodes = read_nodes(self.path / "nodes.json")
        except FedloomError:
            return {}
        return {entry["node"]: name for name, entry in nodes.items()}
