"""Answers of several rounds judged together, each round anew; ours.

Where clients come and go, those of one round may be too few to tell who is wrong: the votes of two are a tie, and a
class that neither knows is a guess. Over the rounds of the pool nearly everybody has answered something, and what a
prompt is drawn as stays what it is. So the answers of all these rounds are judged together, and what is then found of
earlier samples replaces what was to be learned of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from fedloom.methods.state import Kept, Stateful


@dataclass(frozen=True)
class Ballots:
    """Of one round: voters (K), their answers (K, S, ...), what is believed before (S, C), drawn classes (S,)."""

    round: int
    voters: tuple[str, ...]
    answers: Tensor
    start: Tensor
    drawn: Tensor


class Rejudged(Stateful):
    """The ballots of the last rounds.

    Args:
        rounds: how many.
        absent: what stands for no answer.
    """

    ballots: Kept[deque[Ballots]]

    def __init__(self, rounds: int, absent: int) -> None:
        self.ballots, self.absent = deque(maxlen=rounds), absent

    def together(self, new: Ballots) -> Ballots:
        """Takes up a round's, or what is known of it by now; all rounds' as if they were one, of N samples."""
        if self.ballots and self.ballots[-1].round == new.round:
            self.ballots.pop()
        self.ballots.append(new)
        voters = sorted({name for b in self.ballots for name in b.voters})
        parts = []
        for b in self.ballots:
            part = b.answers.new_full((len(voters), *b.answers.shape[1:]), self.absent)
            part[[voters.index(name) for name in b.voters]] = b.answers
            parts.append(part)
        start, drawn = torch.cat([b.start for b in self.ballots]), torch.cat([b.drawn for b in self.ballots])
        return Ballots(new.round, tuple(voters), torch.cat(parts, 1), start, drawn)

    def by_round(self, values: Tensor) -> dict[int, Tensor]:
        """What was found of all N samples, round by round, this one last."""
        sizes = [len(b.drawn) for b in self.ballots]
        return {b.round: part for b, part in zip(self.ballots, torch.split(values, sizes))}
