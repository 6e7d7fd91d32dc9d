"""What a surface is given: files below one folder, and options; on disk, and as JSON to be kept."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class Special(NamedTuple):
    """What is no regular file: a `link` to `target`, a `fifo`, a `folder`, or a `file` without any permission."""

    kind: str
    target: str = ""


Entry = bytes | Special


class Input(NamedTuple):
    """files: relative path -> content; options: JSON values that the reader is told besides."""

    files: dict[str, Entry]
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def replace(self, name: str, entry: Entry | None) -> Input:
        """The same input with another file (None: without it)."""
        files = {key: value for key, value in self.files.items() if key != name}
        return Input(files if entry is None else {**self.files, name: entry}, self.options)


def write(given: Input, folder: Path) -> None:
    """Puts the files in place. A name that the file system does not take, or that is a folder already, is left out."""
    for name, entry in given.files.items():
        with suppress(OSError, ValueError):
            path = Path(os.path.normpath(folder / name))
            if folder not in path.parents:  # a fuzzer writes nothing outside of its own folder
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, bytes):
                path.write_bytes(entry)
            elif entry.kind == "link":
                path.symlink_to(entry.target)
            elif entry.kind == "fifo":
                os.mkfifo(path)
            else:
                path.mkdir()


def to_json(given: Input, note: str) -> str:
    """An input as a small text file, with the finding that it led to."""
    files: dict[str, Any] = {}
    for name, entry in given.files.items():
        if isinstance(entry, Special):
            files[name] = {entry.kind: entry.target}
            continue
        try:
            files[name] = entry.decode()
        except UnicodeDecodeError:
            files[name] = {"base64": base64.b64encode(entry).decode()}
    return json.dumps({"note": note, "options": given.options, "files": files}, indent=1) + "\n"


def from_json(text: str) -> Input:
    """The input that `to_json` wrote."""
    kept = json.loads(text)
    return Input({name: _entry(entry) for name, entry in kept["files"].items()}, kept["options"])


def _entry(entry: str | Mapping[str, str]) -> Entry:
    if isinstance(entry, str):
        return entry.encode()
    ((kind, value),) = entry.items()
    return base64.b64decode(value) if kind == "base64" else Special(kind, value)
