"""A run submitted to a server: what to do and where its events are written."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput
from fedloom.strict_json import parse

SERVER_FOLDER = "FEDLOOM_SERVER"  # the environment variable that names the server's folder to its runs


@dataclass(frozen=True)
class Job:
    """`config`: every value. out: the run's folder, or resume: the folder of a run to go on with. Absolute paths."""

    config: dict[str, Any]
    out: str | None = None
    resume: str | None = None
    overwrite: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @classmethod
    def read(cls, text: str) -> Job:
        """The job that `to_json` described. Raises BadInput where it is none."""
        try:
            return cls(**parse(text, finite=False, halves=True))
        except (ValueError, TypeError) as error:
            raise BadInput(f"the job that was submitted cannot be read: {error}") from None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def event_file(server: Path, job: str) -> Path:
    """Where the job's events are written."""
    return server / "jobs" / f"{job}.jsonl"
