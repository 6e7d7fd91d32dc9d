"""Getting one set of weights into its folder: listed, downloaded, verified, converted where need be, locked last.

Stopped at any moment, the next call continues: whole files are kept, a part of a file is completed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from fedloom.errors import FedloomError
from fedloom.formatting import byte_text
from fedloom.references import load_reference
from fedloom.runs.disk import explained, locked
from fedloom.weights.catalogue import Source
from fedloom.weights.hub import NO_ROOM, NoConnection, download
from fedloom.weights.lock import facts_of, write_lock
from fedloom.weights.order import Download, RemoteFile, written_order
from fedloom.weights.packages import INBOX, Wheels, is_address, same_file
from fedloom.weights.place import MARK, PART, State, lock_table, state_of

PUBLISHED = "published"  # where files lie that the folder is converted from
_CONVERTING = ".making"
Announce = Callable[[str, int | None], None]


@dataclass(frozen=True)
class FetchTarget:
    """A source and its folder."""

    source: Source
    folder: Path

    @property
    def state(self) -> State:
        """How the folder is now."""
        return state_of(self.source, self.folder)

    @property
    def here(self) -> bool:
        """Whether the weights can be loaded from it."""
        return self.state in ("ready", "by hand")

    @property
    def downloads(self) -> Path:
        """Where the files are downloaded to."""
        return self.folder / PUBLISHED if self.source.made_by else self.folder


def target_of(source: Source, root: Path) -> FetchTarget:
    """The source with its folder below `root`."""
    return FetchTarget(source, root / source.name)


def remaining(target: FetchTarget, order: Download) -> int | None:
    """Bytes that are still to be downloaded, by sizes alone; None where a missing file's size is not known."""
    total = 0
    for remote in order.files:
        file = target.downloads / remote.path
        if file.is_file() and remote.bytes in (None, file.stat().st_size):
            continue
        if remote.bytes is None:
            return None
        part = part_of(file)
        total += max(0, remote.bytes - (part.stat().st_size if part.is_file() else 0))
    return total


def part_of(file: Path) -> Path:
    """Where a file lies as long as it is not whole."""
    return file.with_name(file.name + PART)


def needed_bytes(target: FetchTarget, order: Download) -> int | None:
    """About how many bytes of disk are still needed; None where that is not known."""
    left = remaining(target, order)
    if left is None:  # a size is not listed: the catalogue's sum is the best guess
        left = target.source.bytes
    wheel = target.source.bytes if left and target.source.packaged else None  # lies beside what is taken out of it
    return None if left is None else left + target.source.made_bytes + (wheel or 0)


def check_room(root: Path, wanted: int) -> None:
    """FedloomError where the disk that holds `root` has less than `wanted` bytes free."""
    free = free_bytes(root)
    if wanted > free:
        raise FedloomError(f"{root}: {byte_text(wanted)} are needed, {byte_text(free)} are free. {NO_ROOM}")


def free_bytes(root: Path) -> int:
    """Bytes that are free on the disk that holds `root`, or will."""
    existing = next(p for p in (root, *root.absolute().parents) if p.exists())
    return shutil.disk_usage(existing).free


def fetch(target: FetchTarget, order: Download, announce: Announce = lambda path, size: None) -> None:
    """Fill and lock the folder; nothing where it is whole. Of two calls at once the second waits, then finds it done.

    Args:
        announce: takes the path and size (bytes, where known) of each file before it is downloaded.

    Raises:
        NoConnection: the server cannot be reached, or the download keeps breaking. What is there is kept.
        FedloomError: the disk is full, or a file is not what it should be, downloaded twice.
    """
    with explained("write", target.folder), ExitStack() as stack:
        target.folder.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(target.folder.parent / f".{target.folder.name}.lock"))
        if target.here:
            return
        _check_other(target)
        new = not target.folder.exists()
        order.write(target.folder)
        try:
            with Wheels(target.downloads, (remote.url for remote in order.files)) as wheels:
                for remote in order.files:
                    announce(remote.path, remote.bytes)
                    _get(remote, target.downloads / remote.path, f"{target.source.name}/{remote.path}", wheels)
        except FedloomError as error:
            if new and not isinstance(error, NoConnection):
                _forget(target)
            raise
        found = facts_of(target.downloads, (remote.path for remote in order.files))
        if target.source.made_by is None:
            write_lock(target.folder, target.source, order, found, {})
            return
        made = _convert(target, target.source.made_by)
        write_lock(target.folder, target.source, order, facts_of(target.folder, made), found)
        shutil.rmtree(target.downloads, ignore_errors=True)


def _forget(target: FetchTarget) -> None:
    """Take the folder away again where nothing came: what was asked for is not there, under that name."""
    if not any(p.is_file() for p in target.folder.rglob("*") if p.name != MARK and p.parent.name != INBOX):
        shutil.rmtree(target.folder, ignore_errors=True)


def _check_other(target: FetchTarget) -> None:
    """FedloomError where another file of the same package lies where this one belongs."""
    if target.source.address is None:
        return
    begun = written_order(target.folder)
    known = {file.path: file.url for file in begun.files} if begun else {}
    known |= lock_table(target.folder, "from")
    for file in target.source.files:
        there, place = known.get(file.path), target.folder / file.path
        if there is not None and place.exists() and not same_file(str(file.url), there):
            raise FedloomError(f"{place}: is {there}. Delete its folder first, or choose another one with --to")


def _get(remote: RemoteFile, file: Path, label: str, wheels: Wheels) -> None:
    """The file, downloaded and verified unless it lies there; one that is wrong is downloaded again, once."""
    part = part_of(file)
    if remote.fault(file) is None:
        part.unlink(missing_ok=True)  # of before somebody placed the file
        return
    packed = is_address(remote.url)
    for last in (packed, True):
        if packed:
            wheels.take(remote.url, part, remote.bytes)
        else:
            download(remote.url, part, remote.bytes, label)
        fault = remote.fault(part)
        if fault is None:
            break
        part.unlink()
        if last:
            wheels.discard()
            raise FedloomError(f"{remote.url}: what came {fault}. Nothing of it was kept")
    with explained("write", file):
        part.replace(file)


def _convert(target: FetchTarget, converter: str) -> list[str]:
    """Convert what was downloaded to the folder's content; the paths of what was written."""
    out = target.folder / _CONVERTING
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        load_reference(converter, "converter")(target.downloads, out)
        paths = [p.relative_to(out).as_posix() for p in sorted(out.rglob("*")) if p.is_file()]
        for entry in sorted(out.iterdir()):
            there = target.folder / entry.name
            if there.is_dir():
                shutil.rmtree(there)
            entry.replace(there)
    finally:
        with suppress(OSError):
            shutil.rmtree(out)
    return paths
