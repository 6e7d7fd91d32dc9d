"""The samples of the last rounds, that clients and generator go on learning from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from fedloom.methods.state import Kept, Stateful

PLACE = "place"  # of a pool's samples: which of their round's they are


class ReplayPool(Stateful):
    """The samples of the last `rounds` rounds: equal keys, one tensor each, first axis samples."""

    parts: Kept[deque[dict[str, Tensor]]]
    rounds: Kept[deque[int]]  # that the parts are of

    def __init__(self, rounds: int) -> None:
        self.parts, self.rounds = deque(maxlen=rounds), deque(maxlen=rounds)

    def add(self, part: Mapping[str, Tensor], at: int = 0) -> None:
        """Add the samples of round `at` (a round that kept none still pushes the oldest out)."""
        self.parts.append(dict(part))
        self.rounds.append(at)

    def revise(self, at: int, values: Mapping[str, Tensor]) -> None:
        """Values of all samples of round `at`, in place of what is here of those whose PLACE in the round is here.

        Raises ValueError where there are too few.
        """
        for number, part in zip(self.rounds, self.parts):
            if number != at or PLACE not in part:
                continue
            for key, value in values.items():
                if len(part[PLACE]) and len(value) <= int(part[PLACE].max()):
                    raise ValueError(f"{key} of {len(value)} samples of round {at}, of which there are more")
                part[key] = value[part[PLACE]]

    def samples(self) -> dict[str, Tensor]:
        """All of them, key by key; empty when there are none. A key that some round lacks is left out."""
        full = [p for p in self.parts if len(next(iter(p.values())))]
        if not full:
            return {}
        return {key: torch.cat([p[key] for p in full]) for key in full[0] if all(key in p for p in full)}
