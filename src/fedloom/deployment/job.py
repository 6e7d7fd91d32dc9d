"""A run submitted to a server: what to do and where its events are written."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVER_FOLDER = "FEDLOOM_SERVER"  # the environment variable that names the server's folder to its runs


@dataclass(frozen=True)
class Job:
    """`config`: every value. out: the run's folder, or resume: the folder of a run to go on with. Absolute paths."""

    config: dict[str, Any]
    out: str | None = None
    resume: str | None = None
    overwrite: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def event_file(server: Path, job: str) -> Path:
    """Where the job's events are written."""
    return server / "jobs" / f"{job}.jsonl"
