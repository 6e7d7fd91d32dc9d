"""No reply may spoil what all are sent: what is made of a round's replies is checked, and made again without some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np

from fedloom.errors import FedloomError
from fedloom.federation.base import Federation

R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U", bound=Any)
Weighting = Literal["samples", "clamped", "equal"]
WEIGHTING = (
    "clients' say in a mean: by the samples that they claim, by these up to twice the median claim, or the same for all"
)
_CLAMP = 2.0  # times the median
FAULTS = (FedloomError, ValueError, ArithmeticError, LookupError, RuntimeError)


def without_faults(
    federation: Federation, verb: str, replies: Mapping[str, R], combine: Callable[[Mapping[str, R]], T]
) -> T:
    """`combine(replies)`; where that fails, again without the clients whose replies make it fail.

    A client is to blame whose reply fails alone; else one without whom it does not fail. Those are moved to
    `federation.missing`. Where nobody, or everybody, is to blame, the fault is not a client's, and it is raised.

    Args:
        replies: by client. combine: raises one of FAULTS where what it makes cannot be sent; may be called again.
    """
    try:
        return combine(replies)
    except FAULTS as error:
        names = sorted(replies)
        blamed = [k for k in names if _fails(combine, {k: replies[k]})]
        if not blamed or len(blamed) == len(names):
            rest = ({n: replies[n] for n in replies if n != k} for k in names)
            blamed = next(([k] for k, some in zip(names, rest) if some and not _fails(combine, some)), [])
        if not blamed:
            raise
        for client in blamed:
            line = " ".join(str(error).split())
            federation.reject(client, verb, f"its reply spoils what all are sent: {line}")
    return without_faults(federation, verb, {k: v for k, v in replies.items() if k not in blamed}, combine)


def _fails(combine: Callable[[Mapping[str, Any]], Any], replies: Mapping[str, Any]) -> bool:
    try:
        combine(replies)
    except FAULTS:
        return True
    return False


def repeatable(work: Callable[[Mapping[str, R]], T], *things: Any) -> Callable[[Mapping[str, R]], T]:
    """`work` on `things` whose attributes are each time as they are now; of what they hold, dicts alone may change."""
    starts, begun = [_branches(vars(thing)) for thing in things], False

    def again(replies: Mapping[str, R]) -> T:
        nonlocal begun
        if begun:
            for thing, start in zip(things, starts):
                vars(thing).update(_branches(start))
        begun = True
        return work(replies)

    return again


def _branches(value: Any) -> Any:
    """Dicts of dicts copied, with the leaves themselves."""
    return {k: _branches(v) for k, v in value.items()} if type(value) is dict else value


def weighed(updates: Mapping[str, U], weighting: Weighting) -> dict[str, U]:
    """Updates with the `samples` that they count for, which are above 0."""
    if weighting == "samples" or not updates:
        return dict(updates)
    most = 1 if weighting == "equal" else max(1, int(_CLAMP * np.median([u.samples for u in updates.values()])))
    return {k: replace(u, samples=min(u.samples, most)) for k, u in updates.items()}
