"""A real federation on loopback for tests: a SuperLink with TLS, two silos with keys of their own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedloom.config import Config, load_config
from fedloom.config.silo import HostSettings
from fedloom.deployment import pki
from fedloom.deployment.events import follow, run_status
from fedloom.deployment.job import Job, event_file
from fedloom.deployment.silo import SiloSupervisor
from fedloom.deployment.submit import hand_over
from fedloom.deployment.superlink import SuperLink
from fedloom.progress import Observer
from fedloom.results import Run, load_run
from test_engines import overrides

SILOS = 2  # of four clients


class Federation:
    """Two silos and a server, looked after by a thread."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()
        self.keys = root / "pki"
        pki.init(self.keys, [])
        self._stack, self._over = ExitStack(), threading.Event()
        settings = HostSettings(folder=str(root / "server"), port=0, pki=str(self.keys))
        for i in range(SILOS):
            pki.issue(self.keys, f"silo-{i}")
        self.link = self._stack.enter_context(SuperLink(settings, self.said.append))
        self.silos = [self.silo(f"silo-{i}", self.keys / "silos" / f"silo-{i}") for i in range(SILOS)]
        self._watch = threading.Thread(target=self._look_after)
        self._watch.start()

    def silo(
        self,
        name: str,
        kit: Path,
        computes: bool = True,
        initialiser: str | None = "fedloom.experiment.clients:settle_worker",
    ) -> SiloSupervisor:
        """A silo that is up; one that does not compute need not import what models are made of."""
        initialiser = initialiser if computes else None
        settings = {"name": name, "threads": 1, "initialiser": initialiser, "recipe": None}
        made = SiloSupervisor(name, self.root / name, self.link.address, kit, False, settings, self.said.append)
        self._stack.callback(made.stop)
        made.start()
        return made

    def submit(self, config: Config, **where: Any) -> Job:
        job = Job(config.model_dump(mode="json"), **where)
        hand_over(self.link, job)
        return job

    def finish(self, job: Job) -> Run:
        return load_run(follow(event_file(self.link.folder, job.id), Observer(), lambda: None))

    def wait_for_round(self, job: Job, number: int) -> dict[str, Any]:
        """How the job stands once it is in round `number`."""

        def look() -> dict[str, Any] | None:
            found = run_status(event_file(self.link.folder, job.id))
            assert found["state"] in ("waiting", "running"), found
            return found if found["round"] == number else None

        return until(look)

    def rows(self, run: Path) -> list[dict[str, Any]]:
        """The rounds of a run that goes on."""
        return load_run(run).rounds if (run / "metrics.jsonl").exists() else []

    def kill(self, job: Job) -> None:
        """Ends the process that does a job."""
        os.kill(run_status(event_file(self.link.folder, job.id))["pid"], signal.SIGKILL)

    def close(self) -> None:
        self._over.set()
        self._watch.join()
        self._stack.close()

    def _look_after(self) -> None:
        while not self._over.wait(0.5):
            self.link.check()
            for silo in self.silos:
                silo.check()


def until(look: Callable[[], Any], seconds: float = 1200.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing came within {seconds:g} s")


def config_for(method: str, *more: str) -> Config:
    given = (*overrides(method), "engine.name=flower", f"engine.silos={SILOS}", *more)
    return load_config(preset="smoke", overrides=given, values={"method": method})
