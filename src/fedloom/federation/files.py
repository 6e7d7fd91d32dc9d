"""Writing a file so that a crash leaves the old one or the new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path

from fedloom.errors import FedloomError


def replace_file(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one step. Raises FedloomError, leaving the old file, when the disk refuses."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FedloomError(f"cannot write {path}: {error.strerror or error}") from error
