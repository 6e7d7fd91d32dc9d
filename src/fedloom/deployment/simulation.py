"""A run on Flower's simulation engine: silos are virtual nodes that Ray's processes play, on one machine or a cluster.

Any process may play any node at any message, so a silo's state lies in a folder that all of them reach; a process
keeps what it played last in memory and reads the folder only when another has played it since.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.config import Config
from fedloom.errors import FedloomError
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.progress import Observer

if TYPE_CHECKING:
    from fedloom.federation.engines.silo.host import SiloHost
    from fedloom.runs.folder import RunFolder
    from fedloom.runs.load import RunFiles

_HOSTS: dict[str, SiloHost] = {}  # of this process, by folder


@dataclass(frozen=True)
class Played:
    """Answers envelopes for the silo that a virtual node is."""

    folder: str
    threads: int

    def __call__(self, envelope: Envelope, node: dict[str, Any]) -> Envelope:
        from fedloom.deployment.supervisor import INITIALISER
        from fedloom.federation.engines.silo.resident import host_from

        name = f"silo-{node['partition-id']}"
        folder = Path(self.folder) / name
        if str(folder) not in _HOSTS:
            folder.mkdir(parents=True, exist_ok=True)
            if not _HOSTS:  # this process's first: one log, under the name of a silo that it plays
                logging.basicConfig(level=logging.INFO, filename=folder / "log.txt", format="%(asctime)s %(message)s")
            settings = {"name": name, "threads": self.threads, "initialiser": INITIALISER}
            _HOSTS[str(folder)] = host_from(settings, folder)
        return _HOSTS[str(folder)].answer(envelope)


class Simulation:
    """Runs in this process, on `silos` virtual nodes."""

    def __init__(self, config: Config, folder: RunFolder, watch: Observer, silos: int) -> None:
        self.config, self.folder, self.watch, self.silos = config, folder, _Stoppable(watch), silos

    def run(self) -> RunFiles:
        """The run, once it is over. Raises what it failed with."""
        from fedloom.deployment.offline import engine_environment
        from fedloom.experiment import loop as experiment

        os.environ.update(engine_environment(self.folder.federation / "flower"))
        from flwr.app import Context
        from flwr.serverapp import Grid, ServerApp
        from flwr.simulation import run_simulation

        logging.getLogger("flwr").setLevel(logging.ERROR)  # what goes wrong is in our own words
        server, done, failed = ServerApp(), list[Any](), list[BaseException]()

        @server.main()  # type: ignore[untyped-decorator]
        def _main(grid: Grid, context: Context) -> None:
            try:
                done.append(experiment.run(self.config, resume=self.folder.path, observer=self.watch, grid=grid))
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that asked for the run
                failed.append(error)

        silos = str((self.folder.federation / "silos").resolve())
        played = Played(silos, self.config.engine.threads)
        try:
            with own_sigterm():
                run_simulation(server, make_client_app(played), self.silos, backend_config=self._backend())
        except KeyboardInterrupt:
            self.watch.stop()
            raise
        except RuntimeError as error:
            if not failed:
                raise FedloomError(f"Flower's simulation failed: {' '.join(str(error).split())}") from error
        if failed:
            raise failed[0]
        return done[0]  # type: ignore[no-any-return]

    def _backend(self) -> Mapping[str, Any]:
        e = self.config.engine
        start: dict[str, Any] = {"include_dashboard": False} if e.address is None else {"address": e.address}
        start |= {"log_to_driver": False, "logging_level": logging.ERROR}
        return {"init_args": start, "client_resources": {"num_cpus": e.cpus, "num_gpus": e.gpus}}


@contextmanager
def own_sigterm() -> Iterator[None]:
    """SIGTERM does what it did before: Ray takes it over in the process that starts it, and ends that by SystemExit."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if callable(before):
            before(signal.SIGTERM, None)
        raise KeyboardInterrupt from end
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Stoppable(Observer):
    """Passes events on until it is stopped; then the run's thread ends at its next event."""

    def __init__(self, watch: Observer) -> None:
        self._watch, self._stopped = watch, threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def __getattribute__(self, name: str) -> Any:
        if name in ("filled", "stage", "at", "notes", "begin", "phase", "within", "round", "end"):
            if self._stopped.is_set():
                raise KeyboardInterrupt
            return getattr(self._watch, name)
        return super().__getattribute__(name)
