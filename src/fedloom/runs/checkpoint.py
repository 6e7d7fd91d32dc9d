"""Checkpoints that are whole or absent, whenever the process is killed."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedloom.errors import BadInput
from fedloom.runs.disk import explained, sync_folder
from fedloom.runs.manifest import MANIFEST, damage, write_manifest
from fedloom.strict_json import parse

Log = Callable[[str], None]
FORMAT = 2  # of what is in a checkpoint's files: raise when an older one cannot be resumed
_NAME = re.compile(r"round_(\d{4,})")


@dataclass(frozen=True)
class Checkpoint:
    """A complete, verified checkpoint: the state after `round`, in the files under `path`."""

    round: int
    path: Path


def _rounds(root: Path) -> list[Checkpoint]:
    """The checkpoint folders under `root`, sound or not, oldest first."""
    if not root.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in root.iterdir() if path.is_dir()]
    return sorted((Checkpoint(int(m[1]), path) for m, path in found if m), key=lambda c: c.round)


def newest_checkpoint(root: Path, log: Log | None = None) -> Checkpoint | None:
    """The newest sound checkpoint under `root`, or None where there is no checkpoint at all. Changes nothing
    on disk.

    Every file is compared with the sha256 in its manifest. A damaged checkpoint is skipped, with a line to
    `log`.

    Raises:
        BadInput: there are checkpoints and every one of them is damaged; says what is wrong with each.
    """
    problems = []
    for checkpoint in reversed(_rounds(root)):
        problem = damage(checkpoint.path, contents=True)
        if problem is None:
            return checkpoint
        problems.append(f"{checkpoint.path.name}: {problem}")
        if log is not None:
            log(f"warning: checkpoint {checkpoint.path.name} is skipped: {problem}")
    if problems:
        raise BadInput(f"no usable checkpoint in {root}: {'; '.join(problems)}. Start the run anew.")
    return None


def refuse_old_checkpoints(root: Path) -> None:
    """Raises BadInput where the newest checkpoint under `root` is sound, but of another format than is read here."""
    for checkpoint in _rounds(root)[-1:]:
        if damage(checkpoint.path, contents=False) is None:
            found = parse((checkpoint.path / MANIFEST).read_bytes()).get("format")
            if found != FORMAT:
                raise BadInput(
                    f"{checkpoint.path}: checkpoint format {found}, this version of fedloom resumes format {FORMAT}: "
                    "resume it with the version that environment.json names, or start the run anew"
                )


class CheckpointStore:
    """The checkpoints of one run, for the process that writes them.

    A checkpoint is built in a hidden folder, sealed with a manifest, put on disk, and only then renamed to
    its place: a kill at any point leaves the earlier checkpoints as they were. What a killed writer left is
    removed here.

    Args:
        root: the folder `checkpoints` of a run; made when absent.
        keep: how many of the newest checkpoints stay on disk.
        log: takes one line about each damaged checkpoint.
    """

    def __init__(self, root: Path, *, keep: int = 2, log: Log | None = None) -> None:
        if keep < 1:
            raise BadInput(f"checkpoints: keep={keep}, allowed: at least 1")
        self.root, self.keep, self._log = Path(root), keep, log
        with explained("use", self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self._tidy()

    def _tidy(self) -> None:
        for path in self.root.glob(".old-round_*"):
            place = self.root / path.name.removeprefix(".old-")
            # The writer died between moving the old one away and the new one in: the old one is the truth.
            if place.exists():
                self._discard(path)
            else:
                path.rename(place)
        for path in self.root.glob(".tmp-*"):
            shutil.rmtree(path)

    def _discard(self, path: Path) -> None:
        """Remove a folder so that a kill halfway leaves nothing that looks like a checkpoint."""
        shutil.rmtree(path.rename(self.root / f".tmp-{secrets.token_hex(4)}"))

    @contextmanager
    def writing(self, round: int) -> Iterator[Path]:
        """A folder to write the state after `round` into; at the end of the block it becomes the newest
        checkpoint.

        Checkpoints of later rounds, left by a run that was resumed from before them, are removed: they belong
        to a past that is being written again. If the block raises, nothing changes.

        Raises:
            FedloomError: the disk is full or cannot be written; the earlier checkpoints are still there.
        """
        if round < 0:
            raise BadInput(f"checkpoints: round={round}, allowed: 0 or more")
        place = self.root / f"round_{round:04d}"
        with explained("write checkpoint", place, "The checkpoints before it are untouched."):
            tmp = self.root / f".tmp-{secrets.token_hex(4)}"
            tmp.mkdir()
            try:
                yield tmp
                before = [c.path for c in _rounds(self.root)][-1:]  # files may be links to its files
                write_manifest(tmp, {"format": FORMAT, "round": round}, *before)
            except BaseException:
                shutil.rmtree(tmp, ignore_errors=True)
                raise
            self._install(tmp, place)
        self._prune(round)

    def _install(self, tmp: Path, place: Path) -> None:
        old = self.root / f".old-{place.name}"
        if place.exists():
            place.rename(old)
        tmp.rename(place)
        sync_folder(self.root)
        if old.exists():
            self._discard(old)

    def _prune(self, newest: int) -> None:
        with explained("remove old checkpoints in", self.root):
            present = _rounds(self.root)
            past = [c for c in present if c.round <= newest]
            for checkpoint in [*past[: -self.keep], *(c for c in present if c.round > newest)]:
                self._discard(checkpoint.path)

    def latest(self) -> Checkpoint | None:
        """The newest sound checkpoint, or None where there is none at all; see `newest_checkpoint`."""
        return newest_checkpoint(self.root, self._log)
