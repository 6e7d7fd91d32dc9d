"""What a silo has spent in a run, in a file of its own: it only grows, whatever state the client is set back to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fedloom.errors import FedloomError
from fedloom.runs.disk import read_object, write_atomic

Entries = list[tuple[float, float, int]]


def read_book(path: Path) -> tuple[Entries, int]:
    """What was done (noise multiplier, sampling rate, times) and how many answers were given; nothing without a file.

    Raises:
        FedloomError: the file is there and cannot be read.
    """
    if not path.exists():
        return [], 0
    told = read_object(path)
    try:
        return [(float(a), float(b), int(n)) for a, b, n in told["steps"]], int(told["answers"])
    except (KeyError, TypeError, ValueError) as error:
        raise FedloomError(f"{path}: no record of what is spent: {error}") from None


def write_book(path: Path, steps: Sequence[tuple[float, float, int]], answers: int) -> None:
    """Whole or not at all, before anything that it counts is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"steps": [list(entry) for entry in steps], "answers": answers}).encode())
