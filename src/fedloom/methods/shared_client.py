"""The client half of methods that learn from samples which everybody sees; see `shared_samples` for the other.

Ours, because the papers are silent: a pool of the last rounds' synthetic samples, as FedMMKT's clients have it, so that
all take as many steps on as many samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedloom.federation.messages import Empty
from fedloom.methods.base import Client, Done
from fedloom.methods.catch_up import MissedRound
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.methods.shared_messages import RoundSettings, SharedAgain
from fedloom.methods.state import Kept
from fedloom.methods.tuning import PLACE, ReplayPool


class SharedClient(Client):
    """Keeps the samples it is shown, answers about them (`answer`), and learns from what comes back (`objective`).

    Methods define `answer`, `targets` and `objective`; and `local_update` where they take their steps in another order.
    """

    settings: RoundSettings
    samples: Kept[Inputs | None]  # as shown: a public set, or between `infer` and `learn` the round's
    pool: Kept[ReplayPool]
    missed: Kept[int]  # the round that `samples` are of, where it is an earlier one, else 0
    stream = "shared"  # the random streams of steps on shared samples, and of private samples beside them
    private_stream: tuple[str, ...] = ("shared", "private")

    def __init__(self, context: ClientContext, settings: RoundSettings) -> None:
        super().__init__(context, settings)
        self.samples, self.missed = None, 0
        self.pool = ReplayPool(1 if settings.public_pairs else settings.replay_rounds)

    def infer(self, message: Any, *, round: int) -> Any:
        """An answer about the shared samples."""
        context = self.context
        if isinstance(message, SharedAgain):
            held = 0 if self.samples is None else length(self.samples)
            if held != message.samples:
                raise ValueError(f"round {round}: asked about {message.samples} samples, and holds {held}")
        else:
            self.samples = context.inputs(shown(message))
        assert self.samples is not None
        self.missed = 0
        wanted = getattr(message, "wanted", None)
        asked = self.samples if wanted is None else rows(self.samples, torch.from_numpy(wanted))
        z, logits = context.look(asked)
        return context.release(self.answer(message, z, logits), logits.shape[1])

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> Any:
        """The reply, of representations (S, D) and logits (S, C) of what was asked about."""
        raise NotImplementedError

    def recall(self, message: MissedRound, *, round: int) -> Empty:
        """The samples of a round that it has missed; what was learned of them comes next."""
        given = message.texts if message.images is None else message.images
        if given is not None:
            self.samples = self.context.inputs(given)
        elif self.samples is None:
            raise ValueError(f"round {round}: reminded of samples it does not hold")
        self.missed = message.at
        return Empty()

    def learn(self, message: Any, *, round: int) -> Done:
        """Steps on the shared samples with their new targets, then private ones. `message.kept` says which samples."""
        self.keep(message, round)
        return Done(self.context.told(self.local_update(self.lesson(round))))

    def lesson(self, round: int) -> int:
        """The round that the lesson in hand is of: a missed one has its own random streams."""
        at, self.missed = self.missed or round, 0
        return at

    def keep(self, message: Any, round: int) -> None:
        """The kept samples with their targets into the pool."""
        if self.samples is None or len(message.kept) != length(self.samples):
            raise ValueError(f"round {round}: asked to learn from {len(message.kept)} samples it was not shown")
        kept = torch.from_numpy(message.kept)
        learned = rows(self.samples, kept) | self.targets(message, kept) | {PLACE: torch.where(kept)[0]}
        if not self.settings.public_pairs:
            self.samples = None  # a public set is sent once
        self.pool.add(learned, self.missed or round)
        for at, values in self.revised(message).items():
            self.pool.revise(at, values)

    def targets(self, message: Any, kept: Tensor) -> dict[str, Tensor]:
        """What the kept samples are to be learned with, first axis M."""
        raise NotImplementedError

    def revised(self, message: Any) -> dict[int, dict[str, Tensor]]:
        """Of earlier rounds what their samples are to be learned with from now on, first axis S."""
        return {}

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """The loss on training views of the pool's samples i (B,); the pool also holds their `targets`."""
        raise NotImplementedError

    def local_update(self, round: int) -> float | None:
        """The steps of a round: shared samples first, then private ones."""
        loss = self.on_shared(round)
        self.train_private(self.settings.private_steps, round)
        return loss

    def on_shared(self, round: int) -> float | None:
        """`retrain_steps` steps on the pool; mean loss, None for an empty pool."""
        context, s, pool = self.context, self.settings, self.pool.samples()
        if not pool:
            return None
        inputs = {key: pool[key] for key in pool if key in INPUTS}
        self._private = context.rng(round, *self.private_stream)

        def loss(views: Inputs, index: Tensor) -> Tensor:
            return self.objective(views, pool, index)

        steps = s.steps_on(length(inputs), s.retrain_steps, context.batch)
        return context.fit(inputs, steps, loss, round, self.stream)

    def private_loss(self, n: int) -> Tensor:
        """The loss of the client's own task on n private samples, beside a step on shared ones."""
        context = self.context
        if context.beside(self.task_loss):
            return torch.zeros(())
        i = torch.from_numpy(self._private.integers(0, len(context.private_labels), n))
        return self.task_loss(rows(context.private, i), i)


INPUTS = frozenset({"pixel_values", "features", "input_ids", "attention_mask"})


def shown(message: Any) -> Any:
    """The pictures or the texts of a message."""
    return message.images if hasattr(message, "images") else message.texts


def length(inputs: Inputs) -> int:
    """N of a model's inputs."""
    return len(next(iter(inputs.values())))
