"""The mathematics of latent diffusion: noise levels, what the UNet is to say, weights of the loss, samplers by name.

| here      | papers                 | what                                                       |
|-----------|------------------------|------------------------------------------------------------|
| `x0`      | x_0                    | latents of pictures, scaled (B, c, h, w)                   |
| `noise`   | epsilon                | standard normal, like `x0`                                 |
| `kept`    | alpha-bar_t            | share of the signal's variance that is left at t, (B,)     |
| `snr`     | alpha-bar / (1 - .)    | signal to noise                                            |

DDPM: Ho et al., arXiv 2006.11239; v-prediction: Salimans and Ho, arXiv 2202.00512; min-SNR: Hang et al.,
arXiv 2303.09556.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fedloom.errors import BadInput, unknown

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SAMPLERS = {"ddim": "DDIMScheduler", "dpm++": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler"}
_FEWEST_PNDM = 4  # where it begins by Runge-Kutta steps; with fewer, diffusers fails deep inside


def prediction_of(scheduler: Any) -> str:
    """What the UNet says under this scheduler's configuration: one of `PREDICTIONS`."""
    kind = str(scheduler.config.get("prediction_type", "epsilon"))
    name = type(scheduler).__name__
    if not hasattr(scheduler, "alphas_cumprod"):
        raise BadInput(f"scheduler {name}: no DDPM schedule (betas), allowed: that of Stable Diffusion 1, 2 or XL")
    if kind not in PREDICTIONS:
        raise BadInput(f"scheduler {name}: prediction_type {kind!r}, allowed: {', '.join(PREDICTIONS)}")
    return kind


def training_levels(scheduler: Any) -> Tensor:
    """alpha-bar of every training step (T,), float32, by the scheduler's own betas."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(scheduler.config).alphas_cumprod.float()  # type: ignore[no-any-return]


def noised(x0: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """x_t = sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) epsilon, (B, c, h, w)."""
    kept = kept.view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def target(kind: str, x0: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """What the UNet is to say of x_t, (B, c, h, w): epsilon, v = sqrt(alpha-bar) epsilon - sqrt(1 - .) x_0, or x_0."""
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return x0
    kept = kept.view(-1, 1, 1, 1)
    return kept.sqrt() * noise - (1 - kept).sqrt() * x0


def snr_weight(kind: str, kept: Tensor, gamma: float) -> Tensor:
    """min(snr, gamma) as a weight on the squared error of what `kind` says, (B,). Positive, at most gamma or 1."""
    snr = kept / (1 - kept)
    if kind == "sample":
        return snr.clamp(max=gamma)
    if kind == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    return (gamma / snr).clamp(max=1.0)  # also where no signal is left at all


def sampler(name: str, own: Any, steps: int) -> Any:
    """A scheduler that draws in `steps` steps, with the noise levels and the prediction of the pipeline's `own`."""
    import diffusers

    if name == "own":
        runge_kutta = type(own).__name__ == "PNDMScheduler" and not own.config.skip_prk_steps
        if runge_kutta and steps < _FEWEST_PNDM:
            raise BadInput(
                f"sampler own: the folder's PNDM needs {_FEWEST_PNDM} steps or more, sampling_steps = {steps}; "
                f"with fewer: {', '.join(SAMPLERS)}"
            )
        return own
    if name not in SAMPLERS:
        raise unknown("sampler", name, [*SAMPLERS, "own"])
    # Latents are not bounded by 1: DDIM would clip them where the folder's configuration does not forbid it.
    unclipped = {"clip_sample": False} if name == "ddim" else {}
    return getattr(diffusers, SAMPLERS[name]).from_config(own.config, **unclipped)


def picture_seeds(n: int, draws: torch.Generator) -> list[int]:
    """A seed for each of n pictures: a picture depends on its own, not on its batch nor on what was drawn before."""
    return torch.randint(2**62, (n,), generator=draws).tolist()
