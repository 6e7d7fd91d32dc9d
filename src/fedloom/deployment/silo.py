"""A silo with its own data and model, brought up from its settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedloom.config.silo import SiloData, SiloSettings
from fedloom.deployment.shapes import SiloRecord
from fedloom.deployment.supervisor import INITIALISER, SiloSupervisor
from fedloom.deployment.validity import KIT, validity
from fedloom.errors import BadInput
from fedloom.experiment.silo_data import check_data
from fedloom.registry import METHODS
from fedloom.runs.disk import explained, is_held, read_object

# Options of the reader `folder` that name files.
_PATHS = ("images_train", "images_test", "texts_train", "texts_test", "labels_file")

__all__ = ["SiloSupervisor", "silo_status", "supervise", "worker_settings"]


def worker_settings(settings: SiloSettings) -> dict[str, Any]:
    """Settings of that silo's resident worker; see `federation.engines.silo.resident`. Raises BadInput."""
    from fedloom.experiment.silo_client import describe_silo

    for name in settings.bounds.methods or ():
        METHODS.check_installed(name)
    dump = settings.model_dump(mode="json")
    dump["data"]["root"] = _absolute(settings.data)
    recipe = {
        "modality": settings.modality,
        "prepare": "fedloom.experiment.silo_client:prepare_run",
        "factory": "fedloom.experiment.silo_client:build_silo_client",
        "arguments": {"silo": dump},
        "about": describe_silo(dump),
        "check": "fedloom.experiment.silo_offer:check_bounds",
    }
    own = {"private_errors": settings.private_errors, "keep": settings.keep, "recipe": recipe, "bounds": dump["bounds"]}
    return {"name": settings.name, "threads": settings.threads, "initialiser": INITIALISER, **own}


@contextmanager
def supervise(settings: SiloSettings, say: Callable[[str], None]) -> Iterator[SiloSupervisor]:
    """A silo with its own recipe, up as long as this context. Raises BadInput for settings that cannot be used."""
    supervisor = SiloSupervisor(
        settings.name,
        Path(os.path.expanduser(settings.folder)),
        settings.server,
        None if settings.insecure else Path(os.path.expanduser(settings.kit or "kit")),
        settings.insecure,
        worker_settings(settings),
        say,
    )
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


def silo_status(folder: Path) -> dict[str, Any]:
    """The status of the silo in `folder` as `SiloSupervisor` wrote it, and the date on which its kit expires.

    state "died": its process is gone without having stopped. Raises BadInput when the folder is not a silo's.
    """
    with explained("read", folder):
        if not (folder / "silo.json").is_file():
            raise BadInput(f"{folder} is no silo's folder: it has no silo.json. `fedloom silo up` makes it")
    up, found = is_held(folder / ".lock"), read_object(folder / "silo.json", SiloRecord)
    if found.get("kit") is not None:
        with suppress(BadInput):  # somebody else may not read it
            found["kit_until"] = f"{validity(Path(found['kit']), KIT).until:%Y-%m-%d}"
    return found if up or found.get("state") == "stopped" else {**found, "state": "died"}


def _absolute(data: SiloData) -> str | None:
    """The data's folder as an absolute path; the data are read when the silo joins a run.

    Raises BadInput when there is no such reader, or the folder or a file of its options does not exist.
    """
    check_data(data)
    root = None if data.root is None else Path(os.path.expanduser(data.root)).resolve()
    if root is not None and not root.exists():
        raise BadInput(f"data.root = {data.root!r}: there is no such folder")
    if data.name == "folder":
        paths = {k: v for k, v in data.options.items() if k in _PATHS and v is not None}
        for key, value in paths.items():
            if not ((root or Path()) / Path(os.path.expanduser(str(value)))).exists():
                raise BadInput(f"data.options.{key} = {value!r}: there is no such file or folder")
        if root is None and not paths:
            raise BadInput("data: nothing to read; give --data, or data.root or data.options in --config")
    return None if root is None else str(root)
