"""The training loop. It exists once; whoever trains supplies parameters, batches and an objective."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.config.models import CaptionerSettings, ClipSettings, GeneratorSettings
from fedloom.errors import FedloomError
from fedloom.limits import one_more_step
from fedloom.models.unfinished import current
from fedloom.seeding import global_torch_stream

Batch = TypeVar("Batch")


def fit(
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    objective: Callable[[Batch], Tensor],
    *,
    schedule: Callable[[int], float] | None = None,
    clip: float | None = 1.0,
    name: str = "training",
    tick: Callable[[], None] | None = None,
    adjust: Callable[[], None] | None = None,
    accumulate: int = 1,
    scaler: torch.amp.GradScaler | None = None,
) -> float | None:
    """Take one step of the optimizer per batch.

    Args:
        batches, objective: what the steps are taken on, and batch -> scalar loss.
        schedule: step number -> factor on the optimiser's initial rate.
        clip: largest gradient norm, or None.
        name: what is trained, for the error. tick: called after every step (progress).
        adjust: called between the gradients' computation and their clipping; may change them.
        accumulate: parts that each batch, an array, is computed in. The step is that of the whole batch for an
            objective that is a mean over samples; one that compares samples, or normalises by them, sees a part.
        scaler: scales the loss where gradients in fp16 would vanish; a step whose gradients overflow is left out.

    Returns:
        The mean loss, or None when there was no batch.

    Raises:
        FedloomError: the loss is not finite (names `name` and the step), or a limit is reached. That step is not taken.
    """
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    total, steps = 0.0, 0
    with _scheduled(optimizer, schedule) as set_rates:
        for batch in batches:
            set_rates(steps)
            one_more_step()
            optimizer.zero_grad(set_to_none=True)
            total += _gradients(objective, _parts(batch, accumulate), scaler, name, steps)
            scaler.unscale_(optimizer)
            if adjust is not None:
                adjust()
            if clip is not None:
                nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
            scaler.step(optimizer)
            scaler.update()
            steps += 1
            if tick is not None:
                tick()
    return total / steps if steps else None


@contextmanager
def _scheduled(
    optimizer: torch.optim.Optimizer, schedule: Callable[[int], float] | None
) -> Iterator[Callable[[int], None]]:
    """What sets the learning rates for a step; afterwards they are as before."""
    rates = [group["lr"] for group in optimizer.param_groups]

    def set_rates(step: int) -> None:
        if schedule is not None:
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * schedule(step)

    try:
        yield set_rates
    finally:
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate


def _gradients(
    objective: Callable[[Any], Tensor],
    parts: Iterable[tuple[Any, float]],
    scaler: torch.amp.GradScaler,
    name: str,
    step: int,
) -> float:
    """Add the gradients of all parts of a batch up; its loss. FedloomError where that is not finite."""
    value = 0.0
    for part, share in parts:
        loss = objective(part) if share == 1 else objective(part) * share
        value += loss.item()
        if not math.isfinite(value):
            raise FedloomError(f"{name}: the loss is {value} at step {step}")
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    return value


def _parts(batch: Any, accumulate: int) -> Iterator[tuple[Any, float]]:
    """The parts of a batch, each with its share of the samples."""
    if accumulate == 1:
        yield batch, 1.0
        return
    for part in np.array_split(batch, min(accumulate, len(batch))):
        yield part, len(part) / len(batch)


def cosine(steps: int, floor: float = 0.05) -> Callable[[int], float]:
    """Cosine annealing from 1 to `floor` over `steps` steps."""
    return lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / max(steps, 1)))


@dataclass
class Draws:
    """All random numbers of a training: of batches, of noise, and torch's global ones. order: what is left of an epoch.

    streams: torch generators that the objective draws from.
    """

    rng: np.random.Generator
    streams: Sequence[torch.Generator] = ()
    order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def state(self) -> dict[str, Any]:
        """What `load` puts back."""
        streams = [torch.get_rng_state(), *(stream.get_state() for stream in self.streams)]
        numbers = json.dumps(self.rng.bit_generator.state)
        return {"numpy": numbers, "torch": streams, "order": torch.from_numpy(self.order.copy())}

    def load(self, state: dict[str, Any]) -> None:
        """Go on as at `state`."""
        self.rng.bit_generator.state = json.loads(state["numpy"])
        torch.set_rng_state(state["torch"][0])
        for stream, saved in zip(self.streams, state["torch"][1:]):
            stream.set_state(saved)
        self.order = state["order"].numpy()

    def batches(self, n: int, batch: int, steps: int) -> Iterator[NDArray[np.int64]]:
        """`steps` batches of indices below n: epochs in random order, cut anew at each epoch's end."""
        for _ in range(steps if n else 0):
            while len(self.order) < min(batch, n):
                self.order = np.concatenate([self.order, self.rng.permutation(n)])
            taken, self.order = self.order[:batch], self.order[batch:]
            yield taken


def index_batches(n: int, batch: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """`steps` batches of indices below n: epochs in random order, cut anew at each epoch's end."""
    return Draws(rng).batches(n, batch, steps)


def adamw(parameters: Iterable[nn.Parameter], rate: float, decay: float = 0.01) -> torch.optim.AdamW:
    """AdamW as used throughout (fused: a third of the step's time on a CPU)."""
    return torch.optim.AdamW(list(parameters), lr=rate, weight_decay=decay, fused=True)


def fit_from_scratch(
    module: nn.Module,
    name: str,
    objective: Callable[[NDArray[np.int64]], Tensor],
    n: int,
    settings: CaptionerSettings | ClipSettings | GeneratorSettings,
    draws: Draws,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Pretrain what needs gradients of a part of the server, and leave it in evaluation mode; the mean loss.

    Where a place for its state is set (`unfinished.kept_in`) it goes on from what was done there before.

    Args:
        name: of the part; in lower case, of torch's global stream too.
        settings: how long and how fast.
        objective: indices (B,) below n -> scalar loss.
        draws: of the batches, and what the objective draws from.

    Raises:
        OutOfTime: the time set there is over.
    """
    steps, kept = settings.steps, current()
    with global_torch_stream(seed, name.lower(), "training"):
        module.train()
        optimizer = adamw((p for p in module.parameters() if p.requires_grad), settings.rate)
        first = done = kept.resume(module, optimizer, draws) if kept else 0

        def after() -> None:
            nonlocal done
            done += 1
            if kept:
                kept.after_step(done, steps, name, module, optimizer, draws)
            if tick:
                tick()

        for _ in range(first):
            (tick or int)()  # what was done before counts
        batches, rate = draws.batches(n, settings.batch, steps - first), cosine(steps)

        def schedule(step: int) -> float:
            return rate(first + step)

        loss = fit(optimizer, batches, objective, schedule=schedule, name=f"{name} pretraining", tick=after)
    module.eval()
    return loss


def state_arrays(module: nn.Module, prefix: str = "") -> dict[str, NDArray[Any]]:
    """A module's state as NumPy arrays, names prefixed."""
    return {prefix + key: value.detach().cpu().numpy().copy() for key, value in module.state_dict().items()}


def load_arrays(module: nn.Module, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> None:
    """Put `state_arrays` back; arrays of other names are passed over."""
    module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in part_of(arrays, prefix).items()})


def part_of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
