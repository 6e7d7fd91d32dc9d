"""Files that others write: looked at again and again, read once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedloom.runs.disk import explained, parse_object

Mark = tuple[Any, ...]
_LOG_BYTES, _LOG_LINES = 1 << 16, 200  # of a log, the end is shown


class GrowingLines:
    """A JSON-lines file that is added to. `kind`: what each line is, of `runs.shapes`."""

    def __init__(self, path: Path, kind: type[Any], take: Callable[[dict[str, Any]], None]) -> None:
        self.path, self._kind, self._take = path, kind, take
        self._at, self._lines, self._of = 0, 0, 0  # bytes and lines read, and of which file

    def read(self, forget: Callable[[], None]) -> None:
        """Gives `take` each whole line once; where the file was replaced, all of them again after `forget`.

        Raises BadInput for a line that is none of `kind`, FedloomError when the file cannot be read.
        """
        with explained("read", self.path):
            if not self.path.is_file():
                data = b""
            else:
                with self.path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    if (status.st_ino != self._of and self._of) or status.st_size < self._at:
                        self._at = self._lines = 0
                        forget()
                    self._of = status.st_ino
                    file.seek(self._at)
                    data = file.read()
        for line in data.split(b"\n")[:-1]:  # the rest is being written
            if line.strip():
                self._take(parse_object(line, f"{self.path}, line {self._lines + 1}", self._kind))
            self._at, self._lines = self._at + len(line) + 1, self._lines + 1


def mark_of(*paths: Path) -> Mark:
    """What changes when one of the files, or the names in one of the folders, does."""
    return tuple(_stat(path) for path in paths)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def log_end(path: Path) -> list[str]:
    """The last lines of a log; none where there is no such file."""
    try:
        if not path.is_file() or path.is_symlink():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return []


def is_at_work(lock: Path) -> bool | None:
    """Whether a process of this machine holds that lock file; None where the system does not say.

    It is not taken for that, even for a moment: a run that takes it just then would be refused.
    """
    try:
        node = lock.stat().st_ino
        held = Path("/proc/locks").read_text()
    except OSError:
        return None
    return any(
        line.split()[1] == "FLOCK" and line.split()[5].rpartition(":")[2] == str(node) for line in held.splitlines()
    )
