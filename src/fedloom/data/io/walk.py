"""Folders as people have them: hidden and system entries, links, loops of links, pipes. One walk for all readers."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fedloom.errors import BadInput, printable

# What systems and programs leave in folders, in lower case; what begins with a dot is hidden by that alone.
SYSTEM = frozenset(
    {
        "@eadir", "#recycle", "@recycle", "@recently-snapshot", "@tmp", "#snapshot", "~snapshot",  # network drives
        "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
        "$recycle.bin", "recycler", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini",  # Windows
        "lost+found", "__pycache__",
    }
)  # fmt: skip


# Hidden entries that are never read, whatever a list of files says.
LITTER = SYSTEM | {".ds_store", ".localized", ".git", ".svn", ".ipynb_checkpoints", ".trash", ".spotlight-v100"}


def left_alone(name: str) -> bool:
    """Whether an entry of that name is hidden or a system's own, which no reader takes for data."""
    return name.startswith(".") or name.lower() in SYSTEM


def told(path: str | Path) -> str:
    """A path as text that can be printed and written anywhere."""
    return printable(os.fspath(path))


def in_order(name: str) -> tuple[str, str]:
    """The key that names are sorted by: the same for both ways in which systems write an accented letter."""
    return (name, name) if name.isascii() else (unicodedata.normalize("NFC", name), name)


class FolderEntry(NamedTuple):
    """What `walk` found.

    below: its path below the folder, with `/`; kind: 'file', 'folder', 'missing' (a link to nothing), 'closed' (may
    not be looked at) or 'special' (a pipe, socket or device, which must not be opened); facts: of the file or folder
    that a link leads to; seen: of a folder that is not listed again, where it was; hidden: see `left_alone`, of the
    entry or of a folder above it.
    """

    path: str
    below: str
    kind: str
    facts: os.stat_result | None
    seen: str | None = None
    hidden: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.below.rpartition("/")[2]


def walk(folder: str | Path, *, hidden: bool = False) -> Iterator[FolderEntry]:
    """All entries below `folder` in order of name, links followed; each folder is listed once and none above `folder`,
    so loops of links end. A folder that cannot be listed is given a second time, as 'closed'.

    Hidden and system folders are given, but not entered. With `hidden` they are entered, and LITTER is passed over.
    """
    above = (os.stat(parent) for parent in Path(os.path.realpath(folder)).parents)
    listed = {(facts.st_dev, facts.st_ino): ".." for facts in above}
    yield from _walk(os.fspath(folder), "", listed, hidden, False)


def _walk(
    path: str, below: str, listed: dict[tuple[int, int], str], enter: bool, hidden: bool
) -> Iterator[FolderEntry]:
    try:
        facts = os.stat(path)
        names = sorted(os.listdir(path), key=in_order)
    except OSError:
        yield FolderEntry(path, below, "closed", None, hidden=hidden)
        return
    listed[facts.st_dev, facts.st_ino] = below
    for name in names:
        if enter and name.lower() in LITTER:
            continue
        own = f"{below}/{name}" if below else name
        entry = _entry(os.path.join(path, name), own, listed, hidden or left_alone(name))
        yield entry
        if entry.kind == "folder" and entry.seen is None and (enter or not entry.hidden):
            yield from _walk(entry.path, own, listed, enter, entry.hidden)


def listing(folder: str | Path) -> list[FolderEntry]:
    """What lies straight inside `folder`, in order of name.

    Raises:
        BadInput: it cannot be listed.
    """
    try:
        names = sorted(os.listdir(folder), key=in_order)
    except OSError as error:
        raise BadInput(f"{told(folder)}: the folder cannot be listed ({error.strerror})") from error
    return [_entry(os.path.join(folder, name), name, {}, left_alone(name)) for name in names]


def _entry(path: str, below: str, listed: dict[tuple[int, int], str], hidden: bool) -> FolderEntry:
    try:
        facts = os.stat(path)
    except OSError as error:  # a link to itself is one to nothing
        gone = isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP
        return FolderEntry(path, below, "missing" if gone else "closed", None, hidden=hidden)
    if stat.S_ISDIR(facts.st_mode):
        return FolderEntry(path, below, "folder", facts, listed.get((facts.st_dev, facts.st_ino)), hidden)
    kind = "file" if stat.S_ISREG(facts.st_mode) else "special"
    return FolderEntry(path, below, kind, facts, hidden=hidden)
