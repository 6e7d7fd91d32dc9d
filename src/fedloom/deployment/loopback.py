"""A whole federation on this machine: keys, a SuperLink, silos with resident workers; all gone when it is closed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from fedloom.config import Config
from fedloom.config.silo import HostSettings
from fedloom.deployment import pki
from fedloom.deployment.events import follow, run_status
from fedloom.deployment.job import Job, event_file
from fedloom.deployment.submit import hand_over
from fedloom.deployment.superlink import SuperLink
from fedloom.deployment.supervisor import INITIALISER, SiloSupervisor
from fedloom.processes.child import alive
from fedloom.progress import Observer
from fedloom.runs.folder import RunFolder

_LOOK = 1.0  # seconds between looks at the silos
_FAREWELL = 5.0  # seconds a run's process has to take leave of Flower


class Loopback:
    """`silos` silos and a server in `folder.federation`, for the run in `folder`. Use it as a context."""

    def __init__(self, config: Config, folder: RunFolder, silos: int, watch: Observer) -> None:
        self.config, self.folder, self.watch = config, folder, watch
        self.root = folder.federation.resolve()
        self.names = [f"silo-{i}" for i in range(silos)]
        self.supervisors: list[SiloSupervisor] = []
        self._stack = ExitStack()
        self._looked = 0.0

    def __enter__(self) -> Self:
        with self._stack:
            self._bring_up()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self) -> Path:
        """The run's folder, once it is over. Raises what it failed with."""
        job = Job(self.config.model_dump(mode="json"), resume=str(self.folder.path.resolve()))
        events = event_file(self.root / "server", job.id)
        hand_over(self.link, job)
        self._stack.callback(_end, events)  # before its silos go: a run that loses them would go on without
        return follow(events, self.watch, self._look_after)

    def _bring_up(self) -> None:
        self.watch.stage(f"federation: a SuperLink and {len(self.names)} silos")
        self.root.mkdir(parents=True, exist_ok=True)
        keys = self.root / "pki"
        # Those of an earlier process, whole or not, are worth nothing to this one's SuperLink.
        shutil.rmtree(keys, ignore_errors=True)
        pki.init(keys, [])
        for name in self.names:
            pki.issue(keys, name)
        host = HostSettings(folder=str(self.root / "server"), port=0, pki=str(keys), database=False)
        self.link = self._stack.enter_context(SuperLink(host))
        shared = {"private_errors": False, "keep": 3, "recipe": None}
        for name in self.names:
            supervisor = SiloSupervisor(
                name,
                self.root / "silos" / name,
                self.link.address,
                keys / "silos" / name,
                False,
                {"name": name, "threads": self.config.engine.threads, "initialiser": INITIALISER, **shared},
                self.folder.log,
            )
            self._stack.callback(supervisor.stop)
            self.supervisors.append(supervisor)
            supervisor.start()
        self._stack.callback(self._ask_to_stop)

    def _ask_to_stop(self) -> None:
        """Asks all silos to stop at once: one after the other takes seconds each."""
        for supervisor in self.supervisors:
            supervisor.ask_to_stop()

    def _look_after(self) -> None:
        """Restarts what has died."""
        if time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            self.link.check()
            for supervisor in self.supervisors:
                supervisor.check()


def _end(events: Path) -> None:
    """Waits for the end of a run's process; kills it at once if the run is not over (its folder has what was done)."""
    found = run_status(events)
    patience = 0.0 if found["state"] == "running" else _FAREWELL
    end = time.monotonic() + patience
    while found["pid"] and alive(found["pid"]):
        if time.monotonic() >= end:
            with suppress(ProcessLookupError):
                os.kill(int(found["pid"]), signal.SIGKILL)
            return
        time.sleep(0.1)
