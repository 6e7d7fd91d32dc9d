"""Submits runs to a server and reads their status."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.deployment.bundle import write_bundle
from fedloom.deployment.events import run_status
from fedloom.deployment.job import Job, event_file
from fedloom.deployment.shapes import JobRecord
from fedloom.errors import BadInput, FedloomError, unknown
from fedloom.runs.disk import read_object, write_atomic

if TYPE_CHECKING:
    from fedloom.deployment.superlink import Host


def hand_over(link: Host, job: Job) -> str:
    """Starts the job on the server; Flower's own number of the run. Raises FedloomError."""
    app = write_bundle(link.folder / "flower" / "app")
    folder = link.folder / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    given = folder / f".{job.id}.toml"
    write_atomic(given, f"job = {json.dumps(json.dumps(job.to_json()))}\n")
    try:
        said = link.flwr("run", str(app), "--run-config", str(given))
    finally:
        given.unlink(missing_ok=True)
    record = {"id": job.id, "flower": str(said["run-id"]), "out": job.out, "resume": job.resume}
    write_atomic(folder / f"{job.id}.json", json.dumps(record))
    return str(said["run-id"])


def jobs(server: Path) -> list[dict[str, Any]]:
    """All jobs submitted to a server, the oldest first: id, flower, folder and what `events.run_status` says.

    One whose files are damaged has the state "unreadable", and `error` says why.
    """
    return [_job(server, path) for path in sorted((server / "jobs").glob("[!.]*.json"), key=_written)]


def _written(path: Path) -> int:
    return os.lstat(path).st_mtime_ns


def _job(server: Path, path: Path) -> dict[str, Any]:
    nothing = {"pid": None, "folder": None, "round": None, "rounds": None}
    try:
        record = read_object(path, JobRecord)
        if not record:
            raise BadInput(f"{path}: there is no such file")
        now = run_status(event_file(server, record["id"]))
    except FedloomError as error:
        return {"id": path.stem, "flower": None, **nothing, "state": "unreadable", "error": str(error)}
    now["folder"] = now["folder"] or record["resume"] or record["out"]
    return {"id": record["id"], "flower": record["flower"], **now}


def event_path(server: Path, job: str) -> Path:
    """The event file of a job, given by its name or the beginning of it. Raises BadInput."""
    if not (server / "jobs").is_dir():
        raise BadInput(f"{server} is no server's folder: it has no jobs")
    known = sorted(path.stem for path in (server / "jobs").glob("[!.]*.json"))
    found = [name for name in known if name.startswith(job)]
    if not known:
        raise BadInput(f"job {job!r}: no run was submitted to {server}")
    if not found:
        raise unknown("job", job, known)
    if len(found) > 1:
        raise BadInput(f"job {job!r} may be any of {', '.join(found[:8])}: use a longer prefix")
    return event_file(server, found[0])
