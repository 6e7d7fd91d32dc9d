"""Bringing one set of weights into its folder: ordered, loaded, verified, made where need be, sealed last.

Stopped at any moment, the next call goes on: whole files are kept, a part of a file is filled up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from fedloom.errors import FedloomError
from fedloom.runs.disk import explained, locked
from fedloom.weights.catalogue import Source
from fedloom.weights.lock import facts_of, seal
from fedloom.weights.made import MAKERS
from fedloom.weights.order import Order, Piece
from fedloom.weights.place import PART, State, state_of
from fedloom.weights.web import ROOM, load

PUBLISHED = "published"  # where files lie that the folder is made from
_MAKING = ".making"
Observer = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Target:
    """A source and its folder."""

    source: Source
    folder: Path

    @property
    def state(self) -> State:
        """How the folder is now."""
        return state_of(self.source.name, self.folder)

    @property
    def here(self) -> bool:
        """Whether the weights can be loaded from it."""
        return self.state in ("ready", "by hand")

    @property
    def loading(self) -> Path:
        """Where the files are loaded to."""
        return self.folder / PUBLISHED if self.source.made_by else self.folder


def target_of(source: Source, root: Path) -> Target:
    """The source with its folder below `root`."""
    return Target(source, root / source.name)


def remaining(target: Target, order: Order) -> int | None:
    """Bytes that are still to be loaded, by sizes alone; None where no size of a missing file is known."""
    total = 0
    for piece in order.pieces:
        file = target.loading / piece.path
        part = file.with_name(file.name + PART)
        if file.is_file() and piece.bytes in (None, file.stat().st_size):
            continue
        if piece.bytes is None:
            return None
        total += max(0, piece.bytes - (part.stat().st_size if part.is_file() else 0))
    return total


def need(target: Target, order: Order) -> int | None:
    """About how many bytes of disk are still needed; None where that is not known."""
    left = remaining(target, order)
    if left is None:  # a size is not told: the catalogue's sum is the best guess
        left = target.source.bytes
    return None if left is None else left + target.source.made_bytes


def check_room(root: Path, wanted: int) -> None:
    """FedloomError where the disk that holds `root` has less than `wanted` bytes free."""
    from fedloom.reporting.scores import byte_text

    free = free_bytes(root)
    if wanted > free:
        raise FedloomError(f"{root}: {byte_text(wanted)} are needed, {byte_text(free)} are free. {ROOM}")


def free_bytes(root: Path) -> int:
    """Bytes that are free on the disk that holds `root`, or will."""
    existing = next(p for p in (root, *root.absolute().parents) if p.exists())
    return shutil.disk_usage(existing).free


def fetch(target: Target, order: Order, observe: Observer = lambda path, done, size: None) -> None:
    """Fill and seal the folder; nothing where it is whole. Two calls at once: the second waits, then finds it done.

    Raises:
        NoConnection: the server cannot be reached, or the transfer keeps breaking. What is there is kept.
        FedloomError: the disk is full, or a file is not what it should be, loaded anew once.
    """
    with explained("write", target.folder), ExitStack() as stack:
        target.folder.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(target.folder.parent / f".{target.folder.name}.lock"))
        if target.here:
            return
        order.write(target.folder)
        for piece in order.pieces:
            _bring(piece, target.loading / piece.path, observe)
        loaded = facts_of(target.loading, (piece.path for piece in order.pieces))
        if target.source.made_by is None:
            seal(target.folder, target.source, order, loaded, {})
            return
        made = _make(target)
        seal(target.folder, target.source, order, facts_of(target.folder, made), loaded)
        shutil.rmtree(target.loading, ignore_errors=True)


def _bring(piece: Piece, file: Path, observe: Observer) -> None:
    """The file, loaded and verified unless it lies there; one that is wrong is loaded anew, once."""
    part = file.with_name(file.name + PART)
    if piece.fault(file) is None:
        part.unlink(missing_ok=True)  # of before somebody placed the file
        observe(piece.path, file.stat().st_size, piece.bytes)
        return
    for again in (True, False):
        load(piece.url, part, piece.bytes, lambda count: observe(piece.path, count, piece.bytes))
        fault = piece.fault(part)
        if fault is None:
            break
        part.unlink()
        if not again:
            raise FedloomError(f"{piece.url}: what came {fault}. Nothing of it was kept")
    with explained("write", file):
        part.replace(file)


def _make(target: Target) -> list[str]:
    """Make the folder's content from what was loaded; the paths of what was made."""
    making = target.folder / _MAKING
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        MAKERS[str(target.source.made_by)](target.loading, making)
        paths = [p.relative_to(making).as_posix() for p in sorted(making.rglob("*")) if p.is_file()]
        for entry in sorted(making.iterdir()):
            there = target.folder / entry.name
            if there.is_dir():
                shutil.rmtree(there)
            entry.replace(there)
    finally:
        with suppress(OSError):
            shutil.rmtree(making)
    return paths
