"""What a silo has spent in a run, in a file of its own: it only grows, whatever state the client is set back to.

runs/RUN/privacy/NAME.json     {"steps": [[noise multiplier, sampling rate, times]], "answers": answers given}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fedloom.errors import FedloomError
from fedloom.privacy.accounting import spent
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


def spent_elsewhere(book: Path, delta: float) -> float:
    """Epsilon at `delta` of the private steps in all other runs than that of `book`, by simple composition: added up.

    Raises:
        FedloomError: a run's book cannot be read.
    """
    runs = book.parent.parent.parent
    others = {place.resolve() for place in runs.glob("*/privacy")} - {book.parent.resolve()}
    return sum(spent(read_book(place / book.name)[0], delta) for place in sorted(others))


def write_book(path: Path, steps: Sequence[tuple[float, float, int]], answers: int) -> None:
    """Whole or not at all, before anything that it counts is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"steps": [list(entry) for entry in steps], "answers": answers}).encode())
