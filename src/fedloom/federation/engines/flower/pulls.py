"""Waiting for the parts of a message that the other side is still sending."""

from __future__ import annotations

from functools import partial
from types import ModuleType

FIRST, LONGEST = 0.05, 0.5  # seconds between looks: at first, and at most


def look_often(module: ModuleType) -> None:
    """Has a module of Flower's look for missing parts every twentieth to half of a second.

    Flower itself waits 1 s, then 2, 4 and so on up to 10: seconds of sleep for a message of which it came too early to
    see all. It gives up after two hours, as before, but after no number of looks.
    """
    names = vars(module)
    patient = {"initial_backoff": FIRST, "backoff_cap": LONGEST, "max_tries_per_object": None}
    names["pull_objects"] = partial(names["pull_objects"], **patient)
