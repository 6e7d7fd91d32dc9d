"""The clients of one process: all of them in memory, or so many at most, while the others wait in files.

A client that is parked has its state in two files, as a checkpoint holds it: those of the last checkpoint, where it has
not changed since, else files of its own. It is taken up again as a resumed run takes it up, so no number differs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.contract import WireContract
from fedloom.federation.host import ClientHost, ClientSpec, Outcome
from fedloom.runs.disk import explained


class Residents:
    """The clients of `specs`, at most `most` of them in memory, built when they are first asked; None: all.

    parking: folder for the files of those that wait and have changed since the last checkpoint.
    """

    def __init__(
        self, specs: Sequence[ClientSpec], contract: WireContract, most: int | None = None, parking: Path | None = None
    ) -> None:
        if most is not None and (most < 1 or parking is None):
            raise BadInput(f"resident = {most}, allowed: 1 or more, with a folder for those that wait ({parking})")
        self.most, self._parking = most, parking or Path()
        # A repeated request never comes here: what a dead worker held is lost, not sent again.
        self._hosts = {spec.name: ClientHost(spec, contract, remember=0) for spec in specs}
        self._here: dict[str, None] = {}  # in memory, the least recently asked first
        self._asked: set[str] = set()  # since their state was last looked at
        self._digests: dict[str, bytes] = {}  # of the state that is in files; b"": not known, as they were not read yet
        self._parked: set[str] = set()  # whose files are in `parking`; those of the others are in the checkpoint
        self._checkpoint, self._tag = Path(), dict[str, Any]()
        self._broken: dict[str, str] = {}  # client -> why its state could not be had back

    def build(self) -> None:
        """Where all are in memory, builds them. Raises FedloomError (BadInput where a client says so) naming one."""
        if self.most is None:
            for host in self._hosts.values():
                _ = host.client

    def outcome(self, client: str, verb: str, round: int, key: str, payload: bytes) -> Outcome:
        """What became of a request. Raises FedloomError where the client, or the one it displaces, has no place."""
        if client in self._broken:
            return Outcome(None, "lost", self._broken[client])
        self._tag = {"round": round}
        host = self._hosts[client] if self.most is None else self._take_up(client)
        self._asked.add(client)
        return host.outcome(verb, round, key, payload)

    def save(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """Has the state of each client in `folder`; of one that has not changed, its files are linked there."""
        self._tag = dict(tag)
        for name, host in self._hosts.items():
            if name in self._broken:
                raise FedloomError(f"client {name!r} has no state to save: {self._broken[name]}")
            if name not in self._digests:
                host = self._take_up(name)  # it has never been asked
            if not (host.built and self._write_changed(name, folder)):
                self._place(name, folder)
        self._checkpoint = folder
        for name in self._parked:  # of those that have changed since
            for file in _files(name):
                (self._parking / file).unlink(missing_ok=True)
        self._parked.clear()

    def load(self, folder: Path, tag: Mapping[str, Any]) -> None:
        """All clients are as `save` left them in `folder`. Raises FedloomError; those it does not name go on."""
        self._tag, self._checkpoint = dict(tag), folder
        self._digests = dict.fromkeys(self._hosts, b"")
        for kept in (self._parked, self._asked, self._broken):
            kept.clear()
        for name in list(self._hosts if self.most is None else self._here):
            try:
                self._digests[name] = self._hosts[name].load(folder, self._tag, earlier=True)
            except FedloomError as error:
                self._broken[name] = str(error)
        if self._broken:
            raise FedloomError(next(iter(self._broken.values())))

    def moved(self, folder: Path) -> None:
        """The last checkpoint lies in `folder` now."""
        self._checkpoint = folder

    def _take_up(self, name: str) -> ClientHost:
        """The client, in memory; the one that was asked least recently makes room for it."""
        host = self._hosts[name]
        if not host.built:
            while self.most is not None and len(self._here) >= self.most:
                self._park(next(iter(self._here)))
            _ = host.client
            if name in self._digests:
                try:
                    self._digests[name] = host.load(self._folder(name), self._tag, earlier=True)
                except FedloomError:
                    host.release()
                    raise
        self._here.pop(name, None)
        self._here[name] = None
        return host

    def _park(self, name: str) -> None:
        if self._write_changed(name, self._parking, durable=False):
            self._parked.add(name)
        self._hosts[name].release()
        del self._here[name]

    def _folder(self, name: str) -> Path:
        return self._parking if name in self._parked else self._checkpoint

    def _write_changed(self, name: str, folder: Path, *, durable: bool = True) -> bool:
        """Writes the client's state into `folder` if it is another than its files hold; whether it was."""
        if name in self._digests and name not in self._asked:
            return False
        snapshot = self._hosts[name].snapshot()
        self._asked.discard(name)
        digest = snapshot.digest()
        if self._digests.get(name) == digest:
            return False
        snapshot.write(folder, self._tag, durable=durable)
        self._digests[name] = digest
        return True

    def _place(self, name: str, folder: Path) -> None:
        """Puts the client's files into `folder`, a checkpoint's, which puts them on disk for good."""
        for file in _files(name):
            source, target = self._folder(name) / file, folder / file
            with explained("write", target):
                if name in self._parked:
                    source.replace(target)
                    continue
                target.unlink(missing_ok=True)  # of a worker that died while it saved
                try:
                    os.link(source, target)
                except OSError:  # there are file systems that cannot
                    shutil.copyfile(source, target)


def _files(name: str) -> tuple[str, str]:
    return f"{name}.safetensors", f"{name}.json"


def clear(parking: Path, *, make: bool = False) -> None:
    """Removes the files of parked clients; make: an empty folder is to be there afterwards. Raises FedloomError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(parking)
    if make:
        with explained("use", parking):
            parking.mkdir(parents=True)
