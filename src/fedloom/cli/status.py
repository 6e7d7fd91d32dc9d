"""`fedloom status`: the server, its silos and its runs; or one silo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedloom.cli.options import JsonOption, ServerOption
from fedloom.cli.screen import grid, show, show_json


def status(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Folder of a run on silos of this machine (--engine flower): show those."),
    ] = None,
    server: ServerOption = Path("fedloom-server"),
    silo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Show the silo that has this folder instead.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show a server, its silos and its runs; those of a run on silos of this machine; or one silo.

    Example: fedloom status --server fedloom-server
    """
    if silo is not None:
        _silo(silo, json)
        return
    if run is not None:
        server = _server_of(run)
    from fedloom.deployment.submit import jobs
    from fedloom.deployment.superlink import Host
    from fedloom.deployment.validity import of_server

    with Host.attach(server) as host:
        silos, runs = host.silos(), jobs(server)
    ends = [] if host.pki is None else of_server(host.pki)
    if json:
        show_json({"address": host.address, "silos": silos, "runs": runs, "warnings": ends})
        return
    show(f"server {host.address}, folder {server}")
    show(grid(("silo", "state"), [(s["name"], s["state"]) for s in silos]) if silos else "no silo is admitted")
    if runs:
        columns = ("job", "state", "round", "folder", "")
        show(
            grid(
                columns,
                [(r["id"], r["state"], _round(r), r["folder"] or "", r.get("error") or "") for r in runs],
            )
        )
    else:
        show("no run has been submitted")
    show(*ends)


def _server_of(run: Path) -> Path:
    """The server's folder of a run on silos of this machine. BadInput where it has none that is up."""
    from fedloom.errors import BadInput
    from fedloom.runs.disk import is_held

    if not (run / "config.yaml").is_file():
        raise BadInput(f"{run}: expected a run folder, with a config.yaml; a server's folder is --server {run}")
    server = run / "federation" / "server"
    if not server.is_dir():
        raise BadInput(f"{run} has no silos of its own: allowed: runs of --engine flower (mode loopback)")
    if not (server / ".lock").is_file() or not is_held(server / ".lock"):
        raise BadInput(f"{run}: its silos are not up, as no process is at this run; `fedloom runs` says how far it is")
    return server


def _round(row: dict[str, Any]) -> str:
    return "" if row["round"] is None else f"{row['round']}/{row['rounds']}"


def _silo(folder: Path, json: bool) -> None:
    from fedloom.deployment.silo import silo_status
    from fedloom.deployment.validity import of_kit

    found = silo_status(folder)
    ends = of_kit(Path(found["kit"])) if found.get("kit") else []
    if json:
        show_json({**found, "warnings": ends} if ends else found)
    else:
        show(grid(("", ""), [(key, "" if value is None else value) for key, value in found.items()]), *ends)
