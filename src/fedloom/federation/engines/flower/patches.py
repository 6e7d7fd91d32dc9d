"""Changes inside Flower where it has no setting: each is made only if what it replaces is still there.

A Flower that no longer fits runs unchanged, with a line in its log that says so; where a change is what keeps a machine
safe, it does not run at all.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection
from functools import partial
from types import ModuleType
from typing import Any

FIRST, LONGEST = 0.05, 0.5  # seconds between looks for missing parts: at first, and at most


def patch(
    module: ModuleType,
    name: str,
    change: Callable[[Any], Any],
    *,
    parameters: Collection[str] = (),
    for_safety: bool = False,
) -> None:
    """Puts `change(old)` in the place of `module.name`.

    Args:
        parameters: that the old one must take by name.
        for_safety: end this process where it does not fit, instead of going on without.
    """
    old = vars(module).get(name)
    if old is not None and (not parameters or set(parameters) <= set(inspect.signature(old).parameters)):
        vars(module)[name] = change(old)
        return
    line = f"fedloom: this version of Flower does not fit: {module.__name__}.{name} is missing or has changed"
    if for_safety:
        raise SystemExit(f"{line}; it is not started, as it would be open to others")
    sys.stdout.write(f"{line}; going on without this change\n")
    sys.stdout.flush()


def look_often(module: ModuleType) -> None:
    """Has a module of Flower's look for missing parts of a message every twentieth to half of a second.

    Flower itself waits 1 s, then 2, 4 and so on up to 10: seconds of sleep for a message of which it came too early to
    see all. It gives up after two hours, as before, but after no number of looks.
    """
    patient = {"initial_backoff": FIRST, "backoff_cap": LONGEST, "max_tries_per_object": None}
    patch(module, "pull_objects", lambda pull: partial(pull, **patient), parameters=patient)
