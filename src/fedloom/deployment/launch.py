"""`fedloom run --engine flower`: a whole federation brought up, a run on it, and everything taken down again."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

from fedloom.config import Config
from fedloom.deployment.offline import require_flower, require_ray
from fedloom.errors import BadInput
from fedloom.progress import Observer
from fedloom.runs.folder import RunFolder, new_run
from fedloom.runs.load import RunFiles, read_run


def launch(
    config: Config, folder: RunFolder | None, out: str | Path | None, overwrite: bool, watch: Observer
) -> RunFiles:
    """Does the run that `config` describes on silos of this machine, or goes on with the one in `folder`.

    Raises:
        BadInput: something given is wrong.
        FedloomError: the federation or the run could not go on; what was done is kept.
    """
    if config.engine.mode == "deployment":
        raise BadInput(
            "engine.mode = 'deployment' is a run on silos that have joined a server: start it with `fedloom submit`. "
            "Allowed here: loopback, simulation"
        )
    (require_ray if config.engine.mode == "simulation" else require_flower)()  # before anything is written
    clients = len(config.clients.everyone())
    silos = min(config.engine.silos or clients, clients)
    tree = config.model_dump(mode="json")
    with new_run(out, tree, overwrite=overwrite) if folder is None else nullcontext(folder) as place:
        if config.engine.mode == "simulation":
            from fedloom.deployment.simulation import Simulation

            Simulation(config, place, watch, silos).run()
        else:
            from fedloom.deployment.loopback import Loopback

            with Loopback(config, place, silos, watch) as federation:
                federation.run()
    _gather(place)
    return read_run(place.path)


def _gather(folder: RunFolder) -> None:
    """Moves the silos' exports beside the generator, and removes what only a resume would need."""
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
