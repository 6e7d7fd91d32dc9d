"""`fedloom run --engine flower`: a whole federation brought up, a run on it, and everything taken down again."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedloom.config import Config
from fedloom.errors import BadInput
from fedloom.progress import Observer
from fedloom.runs.folder import RunFolder, new_run_path
from fedloom.runs.load import Run, load_run


def launch(
    config: Config, folder: RunFolder | None, out: str | Path | None, overwrite: bool, watch: Observer
) -> Run:
    """Does the run that `config` describes on silos of this machine, or goes on with the one in `folder`.

    Raises:
        BadInput: something given is wrong.
        FedloomError: the federation or the run could not go on; what was done is kept.
    """
    if config.engine.mode == "deployment":
        raise BadInput(
            "engine.mode = 'deployment' is a run on silos that have joined a server: `fedloom submit` hands it over. "
            "Allowed here: loopback, simulation"
        )
    resumed = folder is not None
    if folder is None:
        place = Path(out) if out else new_run_path(config.method, config.data.name, config.seed)
        folder = RunFolder.create(place, config.model_dump(mode="json"), overwrite=overwrite)
    clients = len(config.clients.everyone())
    silos = min(config.engine.silos or clients, clients)
    try:
        if config.engine.mode == "simulation":
            from fedloom.deployment.simulation import Simulation

            Simulation(config, folder, watch, silos).run()
        else:
            from fedloom.deployment.loopback import Loopback

            with Loopback(config, folder, silos, watch) as federation:
                federation.run()
    except BaseException:
        if not resumed:
            folder.discard_unless_begun()
        raise
    _gather(folder)
    return load_run(folder.path)


def _gather(folder: RunFolder) -> None:
    """Lays what the silos exported beside the generator, and drops what only a resume would need."""
    for exported in sorted(folder.federation.glob(f"silos/*/**/runs/{folder.run_id}/export/*")):
        target = folder.export / exported.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(exported, target)
    for log in sorted(folder.federation.glob("silos/**/log.txt")):  # of a simulation
        kept = folder.federation / "logs" / log.parent.name
        kept.mkdir(parents=True, exist_ok=True)
        shutil.move(log, kept / "silo.log")
    for logs in sorted(folder.federation.glob("silos/*/logs")):
        kept = folder.federation / "logs" / logs.parent.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(exist_ok=True)
        shutil.move(logs, kept)
    for part in ("silos", "pki", "flower", "server/flower"):
        shutil.rmtree(folder.federation / part, ignore_errors=True)
