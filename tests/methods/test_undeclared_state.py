"""State of a method from outside that is not declared is refused: a resumed run would lose it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedloom.errors import FedloomError
from fedloom.methods.fedavg import FedAvgServer
from fedloom.methods.state import Kept, Stateful


class Own(Stateful):
    mean: Kept[float]

    def __init__(self) -> None:
        self.mean, self.rate, self.note = 0.0, 0.1, "a"
        self.sums, self.known = np.zeros(2), {"a": [1]}
        self.net = torch.nn.Linear(1, 1)
        self._cache: dict[str, int] = {}

    def go_on(self) -> None:
        self.mean += 1.0
        self._cache["x"] = len(self._cache)

    def step(self) -> None:
        with torch.no_grad():
            self.net.weight += 1

    def grow(self) -> None:
        self.known["a"].append(2)

    def add(self) -> None:
        self.sums += 1

    def count(self) -> None:
        self.seen = getattr(self, "seen", 0) + 1


def test_what_is_declared_or_stays_or_is_a_cache() -> None:
    own = Own()
    for _ in range(3):
        own.state()
        own.go_on()
    assert own.state()[1]["mean"] == 3.0


@pytest.mark.parametrize(
    ("change", "name"),
    [(Own.step, "net"), (Own.grow, "known"), (Own.add, "sums"), (Own.count, "seen")],
)
def test_what_is_not(change: Callable[[Any], None], name: str) -> None:
    own = Own()
    own.state()
    change(own)
    with pytest.raises(FedloomError, match=rf"^Own\.{name} changes as the run goes on .* `{name}: Kept\[TYPE\]`"):
        own.state()


def test_attributes_of_our_own_classes_are_not_asked() -> None:
    class Mine(FedAvgServer):
        def touch(self) -> None:
            self.mine = getattr(self, "mine", 0) + 1

    server = Mine.__new__(Mine)
    server.received = 1  # type: ignore[attr-defined]  # as a base of ours might
    server._nothing_undeclared()
    server.received = 2  # type: ignore[attr-defined]
    server._nothing_undeclared()
    server.touch()
    with pytest.raises(FedloomError, match=r"Mine\.mine"):
        server._nothing_undeclared()
