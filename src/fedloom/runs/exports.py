"""Exported models: folders of their libraries, sealed with a manifest, so that a damaged or swapped file is seen."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from fedloom.errors import BadInput
from fedloom.runs.manifest import MANIFEST, damage, listed_files, write_manifest
from fedloom.strict_json import parse

KIND = "export"
log = logging.getLogger(__name__)


def seal_export(folder: Path) -> None:
    """Write the manifest of the model in `folder`, all of whose files are there."""
    (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier export to the same place
    write_manifest(folder, {"kind": KIND})


def check_export(folder: Path) -> None:
    """Compare the files of an exported model, each of them, with its manifest, before anything is loaded.

    An export without a manifest is of an earlier version: a warning is logged.

    Raises:
        BadInput: a file is missing, another than was written, or one that the manifest does not name.
    """
    if not os.path.lexists(folder / MANIFEST):
        log.warning("%s has no %s (exported by an earlier version): its files are not checked", folder, MANIFEST)
        return
    problem = damage(folder, contents=True) or _stranger(folder)
    if problem is not None:
        raise BadInput(f"exported model {folder}: {problem}. Export it anew, or copy it again from where it was whole")


def is_sealed(folder: Path) -> bool:
    """Whether `folder` has a manifest that says it is an exported model."""
    place = folder / MANIFEST
    try:
        return place.is_file() and dict(parse(place.read_bytes())).get("kind") == KIND
    except (OSError, ValueError, TypeError):
        return False


def _stranger(folder: Path) -> str | None:
    """A file that the manifest does not name. Libraries read what they find: a second file of weights, or of code.

    What Python and file managers leave beside them (`__pycache__`, `.DS_Store`) is passed over.
    """
    known = listed_files(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        left = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        if not left and name.as_posix() not in known and name.as_posix() != MANIFEST and not path.is_dir():
            return f"its {MANIFEST} does not name {name.as_posix()}"
    return None
