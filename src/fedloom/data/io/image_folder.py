"""Pictures in class folders: what is read, and what is left out and told."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from fedloom.data.io.decode import endings
from fedloom.data.io.raw import Raw
from fedloom.data.io.walk import FolderEntry, listing, told, walk
from fedloom.errors import BadInput


def read_image_folder(path: Path) -> Raw:
    """Pictures of class sub-folders at any depth, links followed; every sub-folder is a class, in order of name.

    Hidden and system entries are left out, files that are no pictures by their ending are counted by it. A link to
    nothing and a pipe with a picture's name stay in, so that reading them is refused or counted like a broken picture.

    Raises:
        BadInput: no class folders or no pictures; a link to nothing or to a folder
            above in a class's place; a folder that cannot be listed.
    """
    ends = endings()
    found: list[tuple[str, FolderEntry]] = []
    lost: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    hidden: list[str] = []
    classes, loose = _classes(path, ends, hidden)
    for name in classes:
        own, other = _pictures(path / name, name, ends, hidden)
        found += [(name, entry) for entry in own]
        ignored += other
        if other and not own:
            lost[name] = (
                f"{told(path / name)}: none of its {other.total()} files is read as a picture ({counted(other)})"
            )
    if not classes:
        raise BadInput(f"{told(path)}: no class sub-folders. Expected: {told(path)}/<class>/*.jpg")
    if not found:
        rest = f"; there are {counted(ignored)}" if ignored else ""
        raise BadInput(
            f"{told(path)}: no pictures in its {len(classes)} class folders ({', '.join(sorted(ends))}){rest}"
        )
    return Raw(
        [Path(entry.path) for _, entry in found],
        [name for name, _ in found],
        [told(entry.path) for _, entry in found],
        [f"{name}/{entry.below}" for name, entry in found],
        tuple(classes),
        left_out=ignored.total(),
        notes={
            "ignored_endings": dict(sorted(ignored.items())),
            "hidden_entries": hidden,
            "pictures_without_class": loose,
        },
        lost=lost,
    )


def counted(ignored: Counter[str]) -> str:
    """`24 .heic, 3 .txt`."""
    return ", ".join(f"{n} {end}" for end, n in ignored.most_common())


def _classes(path: Path, ends: frozenset[str], hidden: list[str]) -> tuple[list[str], int]:
    """The names of the class folders, and how many pictures lie beside them."""
    names, loose = [], 0
    for entry in listing(path):
        if entry.hidden:
            hidden += [told(entry.name)] if entry.kind == "folder" else []
        elif entry.kind == "folder":
            names.append(_sound(Path(entry.path), path))
        elif os.path.splitext(entry.name)[1].lower() in ends:
            loose += 1
        elif entry.kind in ("missing", "closed"):
            what = "a link to a folder that is not there" if entry.kind == "missing" else "may not be read"
            raise BadInput(f"{told(entry.path)}: {what}; mend or remove it")
    return names, loose


def _sound(own: Path, path: Path) -> str:
    """The name of a class folder."""
    real, here = os.path.realpath(own), os.path.realpath(path)
    if here == real or here.startswith(real.rstrip(os.sep) + os.sep):
        raise BadInput(f"{own}: a link to a folder that it lies in, so it is no class; remove it")
    return own.name


def _pictures(
    folder: Path, name: str, ends: frozenset[str], hidden: list[str]
) -> tuple[list[FolderEntry], Counter[str]]:
    """The pictures below a class folder, and the other files by ending."""
    found: list[FolderEntry] = []
    ignored: Counter[str] = Counter()
    for entry in walk(folder):
        end = os.path.splitext(entry.name)[1].lower()
        if entry.kind == "closed":
            raise BadInput(f"{told(entry.path)}: may not be read (permission denied)")
        if entry.hidden:
            if entry.kind == "folder" or end in ends:
                hidden.append(told(f"{name}/{entry.below}"))
        elif entry.kind == "folder":
            continue
        elif end in ends or (entry.kind == "missing" and not end):  # such a link may have led to a folder
            found.append(entry)
        else:
            ignored[told(end) or "without ending"] += 1
    return found, ignored
