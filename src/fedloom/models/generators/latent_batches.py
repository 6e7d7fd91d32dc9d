"""Long syntheses that survive a kill: a folder of finished batches."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.errors import BadInput
from fedloom.models.side_by_side import side_by_side
from fedloom.runs.cache import cache_root, cached
from fedloom.runs.disk import explained, write_atomic

Pictures = NDArray[np.uint8]


def in_batches(
    n: int,
    batch: int,
    draw: Callable[[int, int], Pictures],
    side: int,
    folder: Path | None = None,
    key: Mapping[str, Any] | None = None,
    at_once: bool = False,
) -> Pictures:
    """n pictures, `batch` at a time; with a folder, batches that lie there are read and not drawn again.

    Args:
        draw: (first, one past the last) -> uint8 (B, side, side, 3), the same whenever it is called.
        side: in pixels.
        folder: takes a file a batch, each written as a whole, and `about.json`, the key.
        key: all that the pictures depend on, strict JSON.
        at_once: several batches side by side, on as many processors as there are.

    Returns:
        uint8 (n, side, side, 3).

    Raises:
        BadInput: the folder holds something else, or batches of another key.
        FedloomError: the folder cannot be written.
    """
    spans = [(i, min(i + batch, n)) for i in range(0, n, batch)]
    if folder is not None:
        _claim(folder, json.dumps(key, sort_keys=True, allow_nan=False, indent=1) + "\n")

    def part(span: tuple[int, int]) -> Pictures:
        file = None if folder is None else folder / f"batch-{span[0]:07d}.npy"
        found = None if file is None else _read(file, (span[1] - span[0], side, side, 3))
        if found is not None:
            return found
        drawn = draw(*span)
        if file is not None:
            buffer = io.BytesIO()
            np.save(buffer, drawn, allow_pickle=False)
            write_atomic(file, buffer.getvalue())
        return drawn

    parts = side_by_side(part, spans) if at_once else list(map(part, spans))
    return np.concatenate(parts) if parts else np.zeros((0, side, side, 3), np.uint8)


def in_cache(
    n: int, batch: int, draw: Callable[[int, int], Pictures], side: int, key: Mapping[str, Any], at_once: bool = False
) -> Pictures:
    """`in_batches`, kept in the cache under `key`, where a killed synthesis goes on as well."""
    begun = cache_root() / "synthesis" / hashlib.sha256(repr(key).encode()).hexdigest()

    def build(entry: Path) -> None:
        np.save(entry / "pictures.npy", in_batches(n, batch, draw, side, begun, key, at_once), allow_pickle=False)

    pictures: Pictures = np.load(cached("pictures", key, build) / "pictures.npy", allow_pickle=False)
    shutil.rmtree(begun, ignore_errors=True)
    return pictures


def _claim(folder: Path, key: str) -> None:
    """Make the folder this synthesis' own, or see that it is."""
    with explained("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    about = folder / "about.json"
    if about.exists():
        if about.read_text() != key:
            raise BadInput(
                f"{folder}: holds batches of another synthesis (about.json says which); remove it or name another"
            )
        return
    if any(not file.name.startswith(".") for file in folder.iterdir()):
        raise BadInput(f"{folder}: expected an empty folder or that of a synthesis begun before")
    write_atomic(about, key)


def _read(file: Path, shape: tuple[int, ...]) -> Pictures | None:
    """The batch in a file, or None where there is none or it is damaged."""
    try:
        part: Pictures = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return part if part.shape == shape and part.dtype == np.uint8 else None
