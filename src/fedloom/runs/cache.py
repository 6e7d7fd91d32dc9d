"""What runs share, computed once: folders named by the content of the key that they were built from."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.runs.disk import locked, sync_folder
from fedloom.runs.manifest import MANIFEST, damage, listed_files, write_manifest

VARIABLE = "FEDLOOM_CACHE"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def cache_root() -> Path:
    """The folder of the cache: `$FEDLOOM_CACHE`, or the platform's own place for a user's caches."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fedloom"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fedloom" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedloom"


def cached(
    kind: str,
    key: Mapping[str, Any],
    build: Callable[[Path], None],
    log: Callable[[str], None] | None = None,
) -> Path:
    """The cache folder for `key`, built now if there is no sound one.

    Two processes that want the same entry at the same time build it once: the second waits, then uses it. A
    builder that dies, by whatever cause, leaves its lock free and nothing that looks like an entry.

    Args:
        kind: what it is, a plain name (`generator`, `features`): the folder that entries lie in.
        key: everything the content depends on, versions of the code included; strict JSON.
        build: fills the empty folder it is given.
        log: takes one line for each build, and one for each damaged entry.

    Returns:
        The complete folder. Treat it as read-only.

    Raises:
        FedloomError: the cache cannot be written, or the disk is full; names the folder and `$FEDLOOM_CACHE`.
        BadInput: `kind` is not a plain name.
    """
    if not kind or kind.startswith(".") or not all(c.isalnum() or c in "-_." for c in kind):
        raise BadInput(f"cache kind {kind!r}: allowed are letters, digits, '-', '_' and '.'")
    digest = digest_of(key)
    folder = cache_root() / kind
    entry = folder / digest
    if _problem(entry) is None:
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{digest}.lock"):
            _ensure(entry, key, build, log)
    except OSError as error:
        # An error of `build` about something else (a missing input, say) is not about the cache: leave it as
        # it is.
        place = str(error.filename or "")
        if error.errno not in _DISK and not place.startswith(str(folder)):
            raise
        raise FedloomError(
            f"cannot write the cache {folder}: {error.strerror or error}. "
            f"Set {VARIABLE} to a folder that can be written and has room."
        ) from error
    return entry


def digest_of(key: Mapping[str, Any]) -> str:
    """What the folder of a key is called: SHA-256 in hex."""
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _problem(entry: Path) -> str | None:
    """What is wrong with an entry, in a few words, or None."""
    if problem := damage(entry, contents=False):
        return problem
    named = listed_files(entry)
    for path in entry.rglob("*"):
        name = path.relative_to(entry).as_posix()
        if name != MANIFEST and name not in named and not name.startswith(".") and not path.is_dir():
            return f"its {MANIFEST} does not name {name}"
    return None


def _ensure(
    entry: Path, key: Mapping[str, Any], build: Callable[[Path], None], log: Callable[[str], None] | None
) -> None:
    """Build `entry` unless it is sound by now. The caller holds its lock."""
    say = log or (lambda line: None)
    problem = _problem(entry)
    if problem is None:
        return
    kind, folder = entry.parent.name, entry.parent
    for left in folder.glob(f".tmp-{entry.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    tmp = folder / f".tmp-{entry.name}-{secrets.token_hex(4)}"
    if entry.exists():
        say(f"cache: {kind} {entry.name[:12]} is damaged ({problem}) and is built again")
        entry.rename(folder / f".tmp-{entry.name}-old")
        shutil.rmtree(folder / f".tmp-{entry.name}-old", ignore_errors=True)
    else:
        say(f"cache: building {kind} {entry.name[:12]}")
    tmp.mkdir()
    try:
        build(tmp)
        write_manifest(tmp, {"kind": kind, "key": dict(key)})
        tmp.rename(entry)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
