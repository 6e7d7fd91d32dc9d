"""A round's replies put together, and those of the rounds before; the round's clock."""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.federation.exchange import Reply
from fedloom.methods.robust import shortened
from fedloom.methods.state import Kept, Stateful

log = logging.getLogger(__name__)


class ClientOutputs:
    """The replies stacked over clients: labels, entropies (K, S), representations (K, S, D), logits (K, S, C), and the
    classes that they know, bool (K, C).

    A reply about another number of samples, or of another width, is left out and logged: its client is absent. A label
    outside 0..C-1, or a row of logits that is not finite, leaves the client out for that sample. So does a zero vector
    where representations are all that is sent. `present` (K, S).
    """

    def __init__(self, replies: Sequence[Reply], samples: int, classes: int, width: int) -> None:
        shapes = {
            "representations": (samples, width),
            "augmented": (samples, width),
            "labels": (samples,),
            "entropies": (samples,),
            "logits": (samples, classes),
            "known": (classes,),
        }
        self.replies = [r for r in replies if _fits(r, shapes)]
        self.modalities = tuple(r.modality for r in self.replies)
        said = [r.message for r in self.replies]
        stack = {
            key: torch.stack([torch.from_numpy(getattr(m, key)) for m in said])
            for key in shapes
            if said and all(getattr(m, key, None) is not None for m in said)
        }
        self.logits: Tensor = stack.get("logits", torch.zeros(0, samples, classes))
        finite = torch.isfinite(self.logits).all(-1)
        own = self.logits.argmax(-1).masked_fill(~finite, -1)
        self.labels: Tensor = stack["labels"].long() if "labels" in stack else own
        self.labels = self.labels.masked_fill((self.labels < 0) | (self.labels >= classes), -1)
        self.entropies: Tensor = stack.get("entropies", torch.zeros(0, samples))
        self.representations: Tensor = stack.get("representations", torch.zeros(0, samples, width))
        self.augmented: Tensor | None = stack.get("augmented")
        self.known: Tensor | None = stack.get("known")
        self.codes: Tensor | None = None  # (K, S, m), for methods that ask for them apart
        self.present = self.labels >= 0
        if "representations" in stack and "labels" not in stack:
            self.present = self.representations.any(-1)
            self.labels = torch.full(self.present.shape, -1)

    def within(self, factor: float | None) -> ClientOutputs:
        """Rows that are longer than `factor` times the median of their modality cut to that, sample by sample."""
        if factor is None:
            return self
        short = copy.copy(self)
        for key in ("logits", "representations", "augmented"):
            rows = getattr(self, key)
            if rows is not None and rows.numel():
                setattr(short, key, shortened(rows, self.modalities, self.present, factor))
        return short

    def only(self, rows: Sequence[int]) -> ClientOutputs:
        """The same of some clients alone, by their rows."""
        some = copy.copy(self)
        some.replies = [self.replies[i] for i in rows]
        some.modalities = tuple(r.modality for r in some.replies)
        for key, value in vars(self).items():
            if isinstance(value, Tensor) and len(value) == len(self.replies):
                setattr(some, key, value[list(rows)])
        return some

    @classmethod
    def scattered(
        cls, replies: Sequence[Reply], wanted: Mapping[str, NDArray[np.bool_]], classes: int
    ) -> ClientOutputs:
        """Of logits about those samples alone that each modality was asked about: bool (S,), by modality.

        A reply about another number of samples is left out and logged.
        """
        samples = len(next(iter(wanted.values())))
        fitting = [r for r in replies if _fits(r, {"logits": (int(wanted[r.modality].sum()), classes)})]
        found = cls([], samples, classes, 0)
        found.replies, found.modalities = fitting, tuple(r.modality for r in fitting)
        found.logits = torch.full((len(fitting), samples, classes), torch.nan)
        for row, r in zip(found.logits, fitting, strict=True):
            row[torch.from_numpy(wanted[r.modality])] = torch.from_numpy(r.message.logits)
        found.present = torch.isfinite(found.logits).all(-1)
        found.labels = found.logits.argmax(-1).masked_fill(~found.present, -1)
        return found


def _fits(reply: Reply, shapes: dict[str, tuple[int, ...]]) -> bool:
    for key, shape in shapes.items():
        got = getattr(getattr(reply.message, key, None), "shape", shape)
        if got != shape:
            log.warning("round %d: %s sent %s of shape %s, expected %s", reply.round, reply.client, key, got, shape)
            return False
    return True


class Clock:
    """Seconds by phase: `with clock("synthesis"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the block's time to `phase`."""
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Ballots:
    """Of one round: voters (K), their answers (K, S, ...), what is believed before (S, C), drawn classes (S,)."""

    round: int
    voters: tuple[str, ...]
    answers: Tensor
    start: Tensor
    drawn: Tensor


class Rejudged(Stateful):
    """The ballots of the last rounds, judged together, each round anew; ours.

    Where clients come and go, those of one round may be too few to tell who is wrong: the votes of two are a tie, and a
    class that neither knows is a guess. Over the rounds of the pool nearly everybody has answered something, and what a
    prompt is drawn as stays what it is. What is then found of earlier samples replaces what was to be learned of them.

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
