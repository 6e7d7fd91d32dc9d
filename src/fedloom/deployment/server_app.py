"""The ServerApp: does a submitted run in the process that Flower starts for it on the server host."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.config import ClientGroup, Config, validate
from fedloom.deployment.events import EventLog
from fedloom.deployment.job import Job, event_file
from fedloom.errors import BadInput, FedloomError
from fedloom.runs.folder import new_run_path
from fedloom.sites import MODALITIES

if TYPE_CHECKING:
    from flwr.serverapp import Grid, ServerApp

log = logging.getLogger(__name__)

FOLDER = "FEDLOOM_SERVER"  # the environment variable that names the server's folder


def make_server_app() -> ServerApp:
    """The app that carries out the job in its run configuration, in the server's folder."""
    from flwr.app import Context
    from flwr.serverapp import ServerApp

    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def _main(grid: Grid, context: Context) -> None:
        job = Job(**json.loads(str(context.run_config["job"])))
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _speak_up()
        carry_out(grid, job, Path(os.environ[FOLDER]))

    return app


def carry_out(grid: Grid, job: Job, server: Path) -> None:
    """Does the job; every failure is told in its event file, then raised."""
    from fedloom import experiment

    events = EventLog(event_file(server, job.id))
    try:
        config: Config = validate(Config, job.config)
        if config.engine.mode == "deployment" and job.resume is None:
            events.stage(f"waiting for {config.engine.silos or 1} silos")
            config = with_roster(config, roster(grid, config))
        out = job.out
        if out is None and job.resume is None:
            out = str(new_run_path(config.method, config.data.name, config.seed, server / "runs"))
        done = experiment.run(
            config, out=out, resume=job.resume, overwrite=job.overwrite, observer=events, grid=grid
        )
    except BaseException as error:
        events.over(None, error)
        raise
    events.over(done.path)


def roster(grid: Grid, config: Config) -> list[dict[str, Any]]:
    """What the silos that are connected say of themselves, once there are as many as the run waits for.

    Raises:
        FedloomError: too few silos come, or too few of those fit this server.
    """
    from fedloom.federation.flower.mail import Mail, hello, wait_for_nodes

    mail, wanted, patience = Mail(grid), config.engine.silos or 1, config.engine.patience
    nodes = wait_for_nodes(mail, wanted, patience)
    found = sorted(hello(mail, nodes, patience).values(), key=lambda said: str(said.get("silo")))
    if len(found) < wanted:
        raise FedloomError(f"{len(found)} of {wanted} silos can take part; the log says what the others lack")
    return found


def with_roster(config: Config, said: list[dict[str, Any]]) -> Config:
    """The configuration with the clients that are really there: a group of one for each silo, by modality.

    A silo that says what no client can be is left out, with a line.
    """
    groups: dict[str, list[dict[str, Any]]] = {m: [] for m in MODALITIES}
    for header in said:
        try:
            modality, group = _group(header)
        except BadInput as error:
            log.warning("silo %s is left out: %s", str(header.get("silo"))[:60], error)
            continue
        groups[modality].append(group)
    if not any(groups.values()):
        raise FedloomError("no silo that is connected can take part; the log says why")
    clients = config.clients.model_dump(mode="json") | groups
    return config.model_copy(update={"clients": validate(type(config.clients), clients, "clients")})


def _group(header: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(modality, client group) of a silo's word about itself. Raises BadInput."""
    about = header.get("about")
    if not isinstance(about, dict) or about.get("modality") not in MODALITIES:
        raise BadInput(f"it says {str(about)[:100]} of itself; a modality and a model are needed")
    model = about.get("model") if isinstance(about.get("model"), dict) else {}
    group = {**(model or {}), "name": str(about.get("name"))[:128]}
    return str(about["modality"]), validate(ClientGroup, group, "model").model_dump(mode="json")


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone: without a SuperLink, a run would only wait."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _speak_up() -> None:
    """Our warnings go to the log of Flower's process."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("fedloom").setLevel(logging.INFO)
