"""A folder's manifest: which files belong to it, how large they are and what they hold. Written last, so its
presence says that the folder is complete; checkpoints and cache entries both rest on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.runs.disk import plain, sync_folder, write_atomic

MANIFEST = "manifest.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Put every file and folder under `folder` on disk for good, then write the manifest, `facts` in it."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    content = {**plain(facts), "files": files}
    write_atomic(folder / MANIFEST, json.dumps(content, indent=1, allow_nan=False))


def damage(folder: Path, *, contents: bool) -> str | None:
    """What is wrong with a sealed folder, in a few words, or None.

    Args:
        contents: compare the sha256 of each file too; otherwise presence and size only, which is fast.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = {str(name): (int(f["bytes"]), str(f["sha256"])) for name, f in manifest["files"].items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return f"its {MANIFEST} is damaged"
    for name, (size, digest) in files.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                return f"{name} has {found} bytes, its manifest says {size}"
            if contents and _sha256(path) != digest:
                return f"{name} is not what was written (sha256 differs)"
        except OSError as error:
            return f"{name}: {error.strerror or error}"
    return None
