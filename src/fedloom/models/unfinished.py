"""Training that takes hours: its state is written every minute, and whoever trains the same goes on from there.

The numbers are those of an unbroken training. Whoever builds a model says where its state lies, by `kept_in`; what
trains it, and knows nothing of folders, asks `current`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from fedloom.errors import OutOfTime

if TYPE_CHECKING:
    from fedloom.models.fit import Draws

EVERY = 60.0  # seconds between two states


@dataclass
class Unfinished:
    """The state of one training, in a file.

    Args:
        file: where it lies.
        end: when to stop, as `time.monotonic` has it; None: never.
    """

    file: Path
    end: float | None = None
    _written: float = field(default_factory=time.monotonic)

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer, draws: Draws) -> int:
        """Put back what `after_step` wrote; the number of steps that were done, 0 where there is nothing to read."""
        try:
            state = torch.load(self.file, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError):  # none, or one that a crash cut short
            return 0
        module.load_state_dict(state["module"])
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate  # what a schedule starts from, not where it was
        draws.load(state["draws"])
        return int(state["step"])

    def after_step(
        self, step: int, steps: int, name: str, module: nn.Module, optimizer: torch.optim.Optimizer, draws: Draws
    ) -> None:
        """Write the state after `step` of `steps` steps, if it is time to.

        Raises:
            OutOfTime: the end has come. Names what is trained and how far it is.
        """
        now = time.monotonic()
        over = self.end is not None and now >= self.end and step < steps
        if not over and now - self._written < EVERY:
            return
        state = {"step": step, "module": module.state_dict(), "optimizer": optimizer.state_dict()}
        part = self.file.with_name(self.file.name + ".part")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state | {"draws": draws.state()}, part)
        os.replace(part, self.file)
        self._written = time.monotonic()
        if over:
            raise OutOfTime(f"{name}: {step} of {steps} steps are done and kept")

    def done(self) -> None:
        """Forget the state: what was trained is written elsewhere."""
        self.file.unlink(missing_ok=True)


_CURRENT: ContextVar[Unfinished | None] = ContextVar("unfinished", default=None)


@contextmanager
def kept_in(unfinished: Unfinished) -> Iterator[None]:
    """What is trained inside goes on from this state, and keeps it there; forgotten once the block ends well."""
    token = _CURRENT.set(unfinished)
    try:
        yield
    finally:
        _CURRENT.reset(token)
    unfinished.done()


def current() -> Unfinished | None:
    """Where the state of what is trained now is to lie; None: nowhere."""
    return _CURRENT.get()
