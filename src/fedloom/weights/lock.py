"""The lock of a fetched folder: which revision it is, and the size and digest of every file. Written last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import FedloomError
from fedloom.runs.disk import json_text, read_object, write_atomic
from fedloom.weights.catalogue import Source
from fedloom.weights.order import Download, RemoteFile, digest
from fedloom.weights.place import LOCK, MARK, lock_table, state_of


def facts_of(root: Path, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of files below `root`, by path."""
    return {path: {"bytes": (root / path).stat().st_size, "sha256": digest(root / path)} for path in sorted(paths)}


def write_lock(
    folder: Path, source: Source, order: Download, files: Mapping[str, Any], made_from: Mapping[str, Any]
) -> None:
    """Write the lock, then take the mark away. What was fetched of the same package before stays in it."""
    before = {key: lock_table(folder, key) if source.address else {} for key in ("from", "files")}
    content = {
        "format": 1,
        "name": source.name,
        "revision": order.revision,
        "licence": source.licence,
        "from": before["from"] | {file.path: file.url for file in order.files},
        "files": before["files"] | dict(files),
    }
    if made_from:
        content["made_from"] = dict(made_from)
    write_atomic(folder / LOCK, json_text(content))
    (folder / MARK).unlink(missing_ok=True)


def revision_of(folder: Path) -> str | None:
    """The revision that a fetched folder holds; None where no lock says."""
    try:
        revision = read_object(folder / LOCK).get("revision")
    except FedloomError:
        return None
    return str(revision) if revision else None


def faults(source: Source, folder: Path) -> list[str]:
    """What is wrong with a folder of weights, a line each; [] where it is as its lock, or the catalogue, says.

    A folder placed by hand has no lock: it is compared with what the catalogue knows of its files.
    """
    state = state_of(source, folder)
    if state in ("missing", "unfinished"):
        return [f"is {state}"]
    if state == "ready":
        return _against_lock(source, folder)
    known = () if source.made_by else source.files  # a converted folder holds none of what was published
    return _faulty(folder, (RemoteFile(f.path, "", f.bytes, f.sha256) for f in known if f.sha256))


def _against_lock(source: Source, folder: Path) -> list[str]:
    try:
        content = read_object(folder / LOCK)
        files = [RemoteFile(path, "", file["bytes"], file["sha256"]) for path, file in content["files"].items()]
        revision = content["revision"]
    except (FedloomError, KeyError, TypeError, AttributeError):
        return [f"its {LOCK} is damaged"]
    found = _faulty(folder, files)
    if source.pinned and revision != source.revision:
        found.insert(0, f"is revision {revision}, the catalogue's is {source.revision}")
    return found


def _faulty(folder: Path, files: Iterable[RemoteFile]) -> list[str]:
    found = ((file.path, file.fault(folder / file.path)) for file in files)
    return [f"{path} {fault}" for path, fault in found if fault]
