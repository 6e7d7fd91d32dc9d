"""GLIDE's noise processes: the two schedules, and walks along few of their steps (respacing).

The schedulers are diffusers'. Ours is only which steps are kept, as the release names them, and the process that the
kept steps make: diffusers' DDIM steps evenly, and both cut the process to float32, where its noisy end is lost.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fedloom.errors import BadInput

STEPS = 1000  # of training, both models


def base_scheduler() -> Any:
    """Ancestral sampling with learned variance on the cosine schedule, as the release draws 64 px pictures."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=STEPS, beta_schedule="squaredcos_cap_v2", variance_type="learned_range")


def upsampler_scheduler() -> Any:
    """DDIM on the linear schedule, as the release draws 256 px pictures; the learned variance is not used."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(num_train_timesteps=STEPS, beta_schedule="linear")


def kept_steps(total: int, spacing: int | str) -> tuple[int, ...]:
    """Which of `total` training steps a walk takes, ascending, by the names of the release.

    Args:
        spacing: a number of even steps, first and last among them; "a,b,c": the process cut into equal parts, with so
            many even steps in each; "ddimN": N steps at a whole stride from 0; "fast27": 27 for the upsampler.
    """
    allowed = "allowed: a number, 'a,b,...', 'ddimN', 'fast27'"
    if spacing == "fast27":
        *most, _ = kept_steps(total, "10,10,3,2,2")
        return (*most, total - 3)  # the noisiest step itself makes DDIM's pictures worse
    name = str(spacing)
    parts = [part.strip() for part in name.removeprefix("ddim").split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise BadInput(f"GLIDE: spacing = {spacing!r}, {allowed}")
    counts = [int(part) for part in parts]
    if name.startswith("ddim"):
        for stride in range(1, total):
            if counts == [len(range(0, total, stride))]:
                return tuple(range(0, total, stride))
        raise BadInput(f"GLIDE: spacing = {spacing!r}: no whole stride takes so many of {total} steps")
    kept: list[int] = []
    start = 0
    for n, count in enumerate(counts):
        size = total // len(counts) + (n < total % len(counts))
        if count > size:
            raise BadInput(f"GLIDE: spacing = {spacing!r}: {count} steps in a part of {size}")
        # Summed as the release sums, not multiplied: what a sum of floats loses decides where ties fall.
        places = accumulate([(size - 1) / max(count - 1, 1)] * (count - 1), initial=0.0)
        kept.extend(start + round(place) for place in places)
        start += size
    return tuple(kept)


@dataclass(frozen=True)
class Process:
    """A noise process of T steps: x_t = sqrt(bar_t) x_0 + sqrt(1 - bar_t) e. All float64 (T,).

    Attributes:
        bar: the signal's share of the variance that is left after each step (alpha bar).
    """

    bar: Tensor

    @classmethod
    def of(cls, scheduler: Any) -> Process:
        """The training process of a diffusers scheduler, from its betas."""
        return cls((1.0 - scheduler.betas.double().cpu()).cumprod(0))

    def along(self, steps: tuple[int, ...]) -> Process:
        """The process that visits only these steps."""
        return Process(self.bar[list(steps)])

    @cached_property
    def before(self) -> Tensor:
        """`bar` one step nearer to the picture; 1 at the first."""
        return torch.cat([self.bar.new_ones(1), self.bar[:-1]])

    @cached_property
    def beta(self) -> Tensor:
        """The variance that a step adds: the largest that q(x_t-1 | x_t) can have."""
        return 1 - self.bar / self.before

    @cached_property
    def posterior_log_variance(self) -> Tensor:
        """Log of the variance of q(x_t-1 | x_t, x_0), the smallest; the second step's stands in for the first's 0."""
        variance = self.beta * (1 - self.before) / (1 - self.bar)
        return torch.cat([variance[1:2], variance[1:]]).log()

    @cached_property
    def posterior_mean(self) -> tuple[Tensor, Tensor]:
        """What x_0 and x_t weigh in the mean of q(x_t-1 | x_t, x_0)."""
        rest = 1 - self.bar
        return self.beta * self.before.sqrt() / rest, (1 - self.before) * (1 - self.beta).sqrt() / rest


def walk(scheduler: Any, steps: int | str) -> tuple[Any, tuple[int, ...]]:
    """A scheduler ready to go `steps`, and the training step that the network is told at each of its own.

    DDPM and DDIM walk the process of the kept steps, whose steps they count from 0. Other schedulers (DPM-Solver++)
    have a spacing of their own and take a number only.
    """
    from diffusers import DDIMScheduler, DDPMScheduler

    if not isinstance(scheduler, (DDIMScheduler, DDPMScheduler)):
        if not isinstance(steps, int):
            raise BadInput(f"{type(scheduler).__name__}: steps = {steps!r}, allowed: a number")
        own = type(scheduler).from_config(scheduler.config)
        own.set_timesteps(steps)
        return own, tuple(own.timesteps.tolist())
    kept = kept_steps(scheduler.config.num_train_timesteps, steps)
    process = Process.of(scheduler).along(kept)
    own = type(scheduler).from_config(
        scheduler.config,
        num_train_timesteps=len(kept),
        trained_betas=process.beta.tolist(),
        timestep_spacing="leading",
        steps_offset=0,
        rescale_betas_zero_snr=False,
    )
    own.alphas_cumprod = process.bar
    own.set_timesteps(len(kept))
    return own, kept[::-1]


def takes_variance(scheduler: Any) -> bool:
    """Whether `scheduler.step` wants the learned variance beside the noise."""
    # Its configuration alone may hold the word from a scheduler that it was made from.
    known = inspect.signature(type(scheduler).__init__).parameters
    return "variance_type" in known and str(scheduler.config.variance_type).startswith("learned")


def step_arguments(scheduler: Any, draws: Any) -> dict[str, Any]:
    """What `scheduler.step` is told besides the step: where its noise comes from, and GLIDE's way of clipping.

    GLIDE infers the noise again from the clipped picture, so that both fit the noisy one.
    """
    offered = {"generator": draws, "use_clipped_model_output": True}
    known = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in offered.items() if name in known}
