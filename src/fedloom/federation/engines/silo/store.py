"""A silo's own folder: for every run what joining brought, and each client's states, the newest last.

    runs/RUN/join.flm                          the message that the silo joined the run with
    runs/RUN/public/                           files the server gave, such as a public vocabulary
    runs/RUN/spent.json                        what the run has had of the silo; see `gate`
    runs/RUN/clients/CLIENT/000003-000007/     state after request 7, made in round 3, with the reply that went out

A state and the reply of the request that led to it appear together, by renaming a folder, so that after a crash
a client is either as it was before a request or as it was after it, and then knows what it has answered.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from fedloom.errors import FedloomError
from fedloom.federation.codec import verify
from fedloom.federation.host import ClientHost, Snapshot
from fedloom.runs.disk import read_object, read_regular, write_atomic

SPENT = "spent.json"
PRIVACY = "privacy"  # what a run has been told of the samples: `privacy.book`
LIVE = ("clients", "public", "join.flm")  # without which a run does not go on
_NAME = re.compile(r"(\d{6,})-(\d{6,})")
RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class StateId(NamedTuple):
    """A saved state: the round it was made in and its place in the order of all of this client's states."""

    round: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.round:06d}-{self.number:06d}"


class Record(NamedTuple):
    """The request that a state answers, and its reply; verb "" for the state at joining."""

    verb: str
    round: int
    key: str
    digest: str


class SiloStore:
    """What a silo keeps of its runs in `root`; states older than `keep` rounds are dropped, the newest never."""

    def __init__(self, root: Path, *, keep: int = 3) -> None:
        self.root, self.keep = root, keep

    def folder(self, run: str) -> Path:
        """The folder of a run. Raises FedloomError for a name that is no run's."""
        if not RUN_NAME.fullmatch(run):
            raise FedloomError(f"run {run[:60]!r} cannot be the name of a folder")
        return self.root / "runs" / run

    def joined(self, run: str) -> bytes | None:
        """The message that the silo joined `run` with, if it did."""
        return read_regular(self.folder(run) / "join.flm")

    def join(self, run: str, message: bytes) -> None:
        """Keeps the message; what was saved of the run before stays."""
        self.folder(run).mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder(run) / "join.flm", message)

    def newest(self, run: str, client: str) -> StateId | None:
        """Where the newest state of a client lies."""
        return max(self._places(run, client), default=None, key=lambda place: place.number)

    def save(self, run: str, snapshot: Snapshot, place: StateId, record: Record, reply: bytes) -> None:
        """Puts a state and the reply that goes with it in place, in one step. Raises FedloomError."""
        clients = self._client(run, snapshot.client)
        part = clients / f".{place.name}.{os.getpid()}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            snapshot.write(part, {"run": run, "round": place.round, "number": place.number})
            write_atomic(part / "record.json", json.dumps(record._asdict()).encode())
            write_atomic(part / "reply.flm", reply)
            part.rename(clients / place.name)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise FedloomError(
                f"cannot keep the state of {snapshot.client!r} in {clients}: {error.strerror or error}"
            ) from error
        self._prune(run, snapshot.client, place.round)

    def load(self, run: str, host: ClientHost, place: StateId) -> tuple[Record, bytes]:
        """Gives a host the state at `place`; returns what it answers. Raises FedloomError."""
        folder = self._client(run, host.spec.name) / place.name
        host.load(folder, {"run": run, "round": place.round, "number": place.number})
        try:
            record = Record(**read_object(folder / "record.json"))
            reply = read_regular(folder / "reply.flm")
            if reply is None:
                raise FedloomError("reply.flm is missing")
            if record.verb:
                verify(reply)
            return record, reply
        except (FedloomError, TypeError) as error:
            raise FedloomError(f"no record beside the state in {folder}: {error}") from error

    def rewind(self, run: str, client: str, round: int) -> StateId | None:
        """Drops all states of later rounds than `round`; where the newest that is left lies."""
        for place in self._places(run, client):
            if place.round > round:
                shutil.rmtree(self._client(run, client) / place.name, ignore_errors=True)
        return self.newest(run, client)

    def forget(self, runs: int, *, exports: bool = True) -> None:
        """Drops all but the `runs` runs that were last worked on.

        exports: whether their exported models go too. If not, what they have had of the silo stays as well: else a
        server could begin a run anew that has had all it may have. What was spent of privacy always stays.
        """
        found: dict[Path, list[Path]] = {}  # run -> what goes; one of which nothing goes is forgotten already
        with contextlib.suppress(FileNotFoundError):
            for folder in (self.root / "runs").iterdir():
                if parts := [
                    part for part in folder.iterdir() if part.name != PRIVACY and (exports or part.name in LIVE)
                ]:
                    found[folder] = parts
        ages = {folder: folder.stat().st_mtime_ns for folder in found}
        for folder in sorted(found, key=lambda folder: ages[folder])[: max(0, len(found) - runs)]:
            for part in found[folder]:
                _drop(part)
            with contextlib.suppress(OSError):
                os.utime(folder, ns=(ages[folder], ages[folder]))  # it is no younger for that
                folder.rmdir()

    def _client(self, run: str, client: str) -> Path:
        return self.folder(run) / "clients" / client

    def _places(self, run: str, client: str) -> list[StateId]:
        try:
            names = [path.name for path in self._client(run, client).iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = (_NAME.fullmatch(name) for name in names)
        return [StateId(int(m[1]), int(m[2])) for m in found if m]

    def _prune(self, run: str, client: str, now: int) -> None:
        """Keeps the last state of each round since `now` - keep, and the one that came before those."""
        last: dict[int, StateId] = {}
        for place in sorted(self._places(run, client), key=lambda place: place.number):
            last[max(place.round, now - self.keep)] = place
        for place in set(self._places(run, client)) - set(last.values()):
            shutil.rmtree(self._client(run, client) / place.name, ignore_errors=True)


def put_aside(place: Path) -> None:
    """Renames the export in `place`, if there is one, to NAME.1, NAME.2, ...: the first that is free."""
    if place.exists():
        others = (place.with_name(f"{place.name}.{n}") for n in itertools.count(1))
        place.rename(next(other for other in others if not other.exists()))


def _drop(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
