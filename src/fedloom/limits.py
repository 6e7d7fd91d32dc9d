"""What a training loop asks before each of its steps: whoever bounds the work sets it, whoever trains knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_before_step: ContextVar[Callable[[], None] | None] = ContextVar("before_step", default=None)


@contextmanager
def before_each_step(ask: Callable[[], None]) -> Iterator[None]:
    """Has `ask` called before each step of training in this context; what it raises ends the training there."""
    token = _before_step.set(ask)
    try:
        yield
    finally:
        _before_step.reset(token)


def one_more_step() -> None:
    """Said by the training loop; raises what the one who bounds the work raises."""
    if (ask := _before_step.get()) is not None:
        ask()
