"""The ServerApp: does a submitted run in the process that Flower starts for it on the server host."""

from __future__ import annotations

import importlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.config import ClientGroup, Config
from fedloom.config.archs import allowed, check_installed, serves, spec_of
from fedloom.config.models import ModelSettings
from fedloom.config.sizes import check_sizes
from fedloom.config.trees import validate
from fedloom.deployment.events import EventLog, run_log
from fedloom.deployment.job import SERVER_FOLDER, Job, event_file
from fedloom.deployment.shapes import HostRecord, read_nodes
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.silo_offer import (
    at_the_silo,
    check_part,
    joint_model,
    joint_offer,
    server_models,
    unit_demanded,
)
from fedloom.federation.engines.flower.patches import look_often
from fedloom.federation.engines.flower.transport import words
from fedloom.federation.engines.silo.store import RUN_NAME
from fedloom.processes.parent import end_with_parent
from fedloom.runs.disk import read_object
from fedloom.runs.folder import new_run_path
from fedloom.tasks import CLIENT_TASKS, ClientTask

if TYPE_CHECKING:
    from flwr.serverapp import Grid, ServerApp

log = logging.getLogger(__name__)

_LARGEST = 4e8  # weights of a backbone that is trained here for a silo, roughly; BERT-large has 3e8


def make_server_app() -> ServerApp:
    """The app that carries out the job in its run configuration, in the server's folder."""
    from flwr.app import Context
    from flwr.serverapp import ServerApp

    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def _main(grid: Grid, context: Context) -> None:
        job = Job.read(str(context.run_config["job"]))
        server = Path(os.environ[SERVER_FOLDER])
        end_with_parent()  # without a SuperLink, the run would only wait
        look_often(importlib.import_module("flwr.superlink.grid.http_grid"))
        _log_to(run_log(event_file(server, job.id)))
        carry_out(NamedGrid(grid, server), job, server)

    return app


class NamedGrid:
    """A Grid that also knows which silo each node was admitted as, and which clients it may bring.

    server: the server's folder, where `host.json` and `nodes.json` say so.
    """

    def __init__(self, grid: Grid, server: Path) -> None:
        self._grid, self._server = grid, server

    def silo_names(self) -> dict[int, str] | None:
        """Node -> silo; None where the server asks for no keys."""
        if read_object(self._server / "host.json", HostRecord).get("pki") is None:
            return None
        return {int(entry["node"]): name for name, entry in read_nodes(self._server / "nodes.json").items()}

    def more_clients(self) -> dict[str, list[str]]:
        """Silo -> clients that it may bring besides its own."""
        return dict(read_object(self._server / "host.json", HostRecord).get("clients") or {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


def carry_out(grid: Any, job: Job, server: Path) -> None:
    """Does the job; a failure is written to its event file, then raised."""
    from fedloom.experiment import loop as experiment
    from fedloom.experiment.client_builder import picture_side
    from fedloom.experiment.datasets import cached_dataset
    from fedloom.methods.base import load_method

    events, out = EventLog(event_file(server, job.id)), job.out
    try:
        config: Config = validate(Config, job.config)
        own = config.engine.mode == "deployment" and bool(load_method(config.method)[0].tasks)
        if own and job.resume is None:
            events.stage(f"waiting for {config.engine.silos or 1} silos")
            config = with_roster(config, roster(grid, config), picture_side(cached_dataset(config.data)))
            server_models(config)  # refused before anything is trained
            joint_offer(config)
        if out is None and job.resume is None:
            out = str(new_run_path(config.method, config.data.name, config.seed, server / "runs"))
        done = experiment.run(config, out=out, resume=job.resume, overwrite=job.overwrite, observer=events, grid=grid)
    except BaseException as error:
        log.error("the run ended: %s", error, exc_info=not isinstance(error, FedloomError))
        if out is not None and job.out is None:
            with suppress(OSError):  # where nothing was begun
                Path(out).rmdir()
        events.over(None, error)
        raise
    events.over(done.path)


def roster(grid: Any, config: Config) -> list[dict[str, Any]]:
    """What the connected silos report about themselves, once there are as many as the run waits for.

    Raises:
        FedloomError: too few silos come, or too few of those fit this server.
    """
    from fedloom.federation.engines.flower.transport import Transport, check_name, hello, wait_for_nodes
    from fedloom.federation.messages import ContractBreach

    transport, wanted, patience = Transport(grid), config.engine.silos or 1, config.engine.patience
    nodes = wait_for_nodes(transport, wanted, patience)
    known, found = transport.admitted(), []
    for node, said in hello(transport, nodes, patience).items():
        about = said.get("about")
        own_name = about.get("name") if isinstance(about, dict) else None
        try:
            for name in (said.get("silo"), own_name):
                check_name(words(name), node, known)
            found.append(said)
        except ContractBreach as breach:
            log.warning("%s", breach)
    found.sort(key=lambda said: str(said.get("silo")))
    if len(found) < wanted:
        raise FedloomError(f"{len(found)} of {wanted} silos can take part; see `fedloom logs` for the others")
    return found


def with_roster(config: Config, said: list[dict[str, Any]], side: int = 0) -> Config:
    """The configuration with the clients that are connected: a group of one for each silo, by modality.

    A silo is left out, with a line in the log, when its description is invalid, its name is taken, its representations
    have another width than those of most silos, its patches do not tile the run's pictures of `side` pixels
    (0: unknown), the method has no part for such a client, or its model is not that of the run's multimodal clients.

    Raises FedloomError when fewer are left than the run waits for, with the reason for the first that was left out.
    """
    from fedloom.methods.base import load_method

    method, fixed = load_method(config.method)
    settings = validate(method.settings, {**config.settings, **fixed}, "settings")
    unit = unit_demanded(method, settings)
    there: dict[str, tuple[str, dict[str, Any]]] = {}
    left_out = []
    for header in said:
        silo = words(header.get("silo"))[:60]
        try:
            modality, group = _group(header, side, unit, config.clients.models(ClientTask.MULTIMODAL_CLASSIFICATION))
            check_part(config.method, modality)
            if group["name"] in there:
                raise BadInput(f"another silo is named {group['name']!r}")
            there[group["name"]] = modality, group
        except BadInput as error:
            left_out.append(f"silo {silo!r} is left out: {words(error)}")
    widths = Counter(group["width"] for _, group in there.values())
    common = max(widths, key=lambda width: (widths[width], width == config.clients.width), default=0)
    for name in [name for name, (_, group) in there.items() if group["width"] != common]:
        width = there.pop(name)[1]["width"]
        left_out.append(f"silo {name!r} is left out: model.width = {width}, allowed: {common}, as the others'")
    for line in left_out:
        log.warning("%s", line)
    if len(there) < (wanted := config.engine.silos or 1):
        raise FedloomError(f"{len(there)} of {wanted} silos can take part: {(left_out or ['no more joined'])[0]}")
    groups = {m: [group for modality, group in there.values() if modality == m] for m in CLIENT_TASKS}
    clients = config.clients.model_dump(mode="json") | groups
    return config.model_copy(update={"clients": validate(type(config.clients), clients, "clients")})


def _group(
    header: Mapping[str, Any], side: int, unit: bool, joint: Sequence[ModelSettings]
) -> tuple[ClientTask, dict[str, Any]]:
    """(modality, client group) from a silo's description of itself, which is untrusted. Raises BadInput.

    unit: whether the method needs representations of unit length; joint: the run's own models of multimodal clients.
    """
    about = header.get("about")
    if not isinstance(about, dict) or about.get("modality") not in CLIENT_TASKS:
        raise BadInput(f"its description is {words(about)[:100]}; a modality and a model are needed")
    name, model = about.get("name"), about.get("model")
    if not isinstance(name, str) or not RUN_NAME.fullmatch(name):
        raise BadInput(f"name = {words(name)[:100]}, allowed: at most 128 letters, digits, '_', '-', '.'")
    if about["modality"] == ClientTask.MULTIMODAL_CLASSIFICATION and (model is None or isinstance(model, dict)):
        return ClientTask.MULTIMODAL_CLASSIFICATION, _joint_group(name, model, joint)
    if not isinstance(model, dict):
        raise BadInput(f"model = {words(model)[:100]}, allowed: `arch` and sizes, as in the configuration")
    _check_installed(model)
    # A path or hub name of the silo's own weights means nothing here.
    own = at_the_silo(model.get("arch"), model.get("pretrained"))
    demanded = {"unit": True} if unit and about["modality"] != ClientTask.RETRIEVAL else {}
    said = {**model, **demanded, "pretrained": own, "name": name}
    group: ClientGroup = validate(ClientGroup, said, "model")
    if not serves(group.arch, about["modality"]):
        raise BadInput(f"{group.arch!r} is no {about['modality']} model, allowed: {allowed(about['modality'])}")
    built_here = [tower for tower in group.towers() if not tower.pretrained]
    patched = any(spec_of(tower.arch).patched for tower in built_here)
    if side and patched and side % group.patch:
        raise BadInput(f"model.patch = {group.patch} does not divide the side of the run's pictures, {side}")
    if built_here:  # its backbone is trained here
        check_sizes(group, _LARGEST)
    modality = ClientTask(about["modality"])
    return modality, group.model_dump(mode="json")


def _check_installed(model: dict[str, Any]) -> None:
    """Raises BadInput for code that a silo names: it would be imported here."""
    try:
        check_installed(model)
    except ValueError as error:
        raise BadInput(f"model.arch = {words(model['arch'])[:100]}: {error}") from None


def _joint_group(name: str, model: dict[str, Any] | None, run: Sequence[ModelSettings]) -> dict[str, Any]:
    """The run's model for a multimodal silo that describes its own as `model`. Raises BadInput where they differ."""
    if not run:
        raise BadInput("modality = 'joint': the run names no model for multimodal clients; set clients.joint")
    own = None
    if model is not None:
        _check_installed(model)
        weights = at_the_silo(model.get("arch"), model.get("pretrained"))
        own = validate(ModelSettings, {**model, "pretrained": weights}, "model")
    joint_model(own, run[0])
    return ClientGroup(**run[0].model_dump(), name=name).model_dump(mode="json")


def _log_to(file: Path) -> None:
    """Logs go to a file: Flower discards the output of this process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("fedloom").setLevel(logging.INFO)
