"""What lies in a folder, and who looks at it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fedloom.errors import BadInput, FedloomError, printable
from fedloom.watch.files import Mark
from fedloom.watch.folder_watch import FolderWatch
from fedloom.watch.run_watch import RunWatch
from fedloom.watch.views import View

MOST = 64  # folders that are remembered at a time


class Watched(Protocol):
    """A folder that is looked at again and again."""

    def mark(self) -> Mark:
        """What changes when the view does; costs next to nothing."""
        ...

    def view(self) -> View:
        """Everything that the page shows."""
        ...


def kind_of(path: Path) -> Callable[[Path], Watched]:
    """Who looks at that folder, by what lies in it. Raises BadInput where it is no folder."""
    if not path.is_dir():
        raise BadInput(f"{path}: {'it is a file' if path.exists() else 'there is no such folder'}")
    if (path / "config.yaml").is_file():
        return RunWatch
    if (path / "plan.json").is_file():
        from fedloom.watch.comparison_watch import ComparisonWatch

        return ComparisonWatch
    if (path / "host.json").is_file() or (path / "nodes.json").is_file():
        from fedloom.watch.federation_watch import FederationWatch

        return FederationWatch
    return FolderWatch


class Places:
    """The folders at and below `root`, and nothing else. For several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[Watched, Mark, bytes]] = {}

    def find(self, at: str) -> Path | None:
        """The folder or file `at`, given by parts between slashes; None for one that lies elsewhere, by links too."""
        parts = [part for part in at.split("/") if part]
        if any(part in (".", "..") or "\\" in part or "\0" in part for part in parts):
            return None
        path = self.root.joinpath(*parts)
        try:
            return path if path.resolve().is_relative_to(self.root.resolve()) else None
        except (OSError, RuntimeError, ValueError):
            return None

    def state(self, at: str) -> bytes | None:
        """The view of a folder as JSON, made anew only when a file has changed; None where it is none of ours."""
        path = self.find(at)
        if path is None:
            return None
        with self._lock:
            try:
                return self._state(path, at)
            except (FedloomError, OSError) as error:  # damaged, or removed just now
                self._known.pop(path, None)
                state = "unreadable" if path.exists() else "gone"
                return _encoded({"title": printable(path.name), "state": state, "facts": [str(error)], "at": at})

    def _state(self, path: Path, at: str) -> bytes:
        kind = kind_of(path)
        who, before, text = self._known.get(path, (None, None, b""))
        if who is None or type(who) is not kind:  # another thing lies there by now
            who, before = kind(path), None
        mark = who.mark()
        if before is None or mark != before:
            text = _encoded({**who.view(), "at": at})
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[path] = who, mark, text
        return text


def _encoded(view: View) -> bytes:
    return json.dumps(view, allow_nan=False).encode()
