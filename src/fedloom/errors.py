"""The errors that a person can mend; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FedloomError(Exception):
    """A run could not go on (exit code 1). The message is one line that names what and where."""


class BadInput(FedloomError, ValueError):
    """Something given from outside is wrong (exit code 2): one line with the thing, its value and what is allowed."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`' Did you mean x?'` for the closest allowed name, or `''` when none is close."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> BadInput:
    """The error for a name that is not on a list: says the nearest one and the whole list."""
    names = sorted(allowed)
    return BadInput(f"unknown {kind} {name!r}.{nearest(name, names)} Allowed: {', '.join(names)}.")
