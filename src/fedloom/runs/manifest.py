"""A folder's manifest: which files belong to it, how large they are and what they hold. Written last, so its
presence says that the folder is complete; checkpoints and cache entries both rest on it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from fedloom.runs.disk import plain, sync_folder, write_atomic
from fedloom.strict_json import parse

MANIFEST = "manifest.json"
SMALL = 4_000_000  # bytes, read in milliseconds
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any], before: Path | None = None) -> None:
    """Put every file and folder under `folder` on disk for good, then write the manifest, `facts` in it.

    before: a folder sealed before. Files that are links to those of the same names there are not read again.
    """
    files: dict[str, dict[str, Any]] = {}
    sealed = dict[str, tuple[int, str]]()
    if before is not None:
        with suppress(ValueError, KeyError, TypeError, AttributeError, OSError):
            sealed = _files(parse((before / MANIFEST).read_bytes()))
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        name, found = path.relative_to(folder).as_posix(), path.stat()
        if before is not None and name in sealed and found.st_nlink > 1 and _same(path, before / name):
            files[name] = dict(zip(("bytes", "sha256"), sealed[name]))
            continue
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        files[name] = {"bytes": found.st_size, "sha256": _sha256(path)}
    content = {**plain(facts), "files": files}
    write_atomic(folder / MANIFEST, json.dumps(content, indent=1, allow_nan=False))


def _same(path: Path, other: Path) -> bool:
    return other.is_file() and path.samefile(other)


def damage(folder: Path, *, contents: bool) -> str | None:
    """What is wrong with a sealed folder, in a few words, or None.

    Args:
        contents: compare the sha256 of every file; otherwise of small ones and of those that were written after the
            manifest, and of the others presence and size, which is fast.
    """
    manifest = folder / MANIFEST
    try:
        if not manifest.is_file():
            return f"it has no {MANIFEST}"
        sealed, files = manifest.stat().st_mtime_ns, _files(parse(manifest.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return f"its {MANIFEST} is damaged"
    for name, (size, digest) in files.items():
        path = folder / name
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is no file"
            if found.st_size != size:
                return f"{name} has {found.st_size} bytes, its {MANIFEST} says {size}"
            if (contents or size <= SMALL or found.st_mtime_ns > sealed) and _sha256(path) != digest:
                return f"{name} is not what was written (sha256 differs)"
        except OSError as error:
            return f"{name}: {error.strerror or error}"
    return None


def listed_files(folder: Path) -> frozenset[str]:
    """The files that the manifest of a sound folder names."""
    return frozenset(_files(parse((folder / MANIFEST).read_bytes())))


def _files(manifest: Any) -> dict[str, tuple[int, str]]:
    """Size and sha256 of each file that the manifest names. ValueError, KeyError, ... where it is none of ours."""
    files: dict[str, tuple[int, str]] = {}
    for name, row in manifest["files"].items():
        size, digest = row["bytes"], row["sha256"]
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\0" in name or len(name) > 4096:
            raise ValueError("a name that leads out of the folder")
        if type(size) is not int or size < 0 or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError("no size or no sha256")
        files[name] = size, digest
    if not files:
        raise ValueError("it names no file")
    return files
