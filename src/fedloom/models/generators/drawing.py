"""Pictures from a pipeline that a run exported, drawn as the run drew them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedloom.config.base import Precision
from fedloom.config.models import GeneratorSettings
from fedloom.models.device import CPU, arithmetic, device_of, settle
from fedloom.models.generators.families import FAMILIES, latent_settings, options_of

Draw = Callable[[Sequence[str], torch.Generator], NDArray[np.uint8]]
_EMBEDDED_BATCH = 64


def prepare_drawing(
    pipeline: Any,
    settings: GeneratorSettings,
    steps: int | None = None,
    guidance: float | None = None,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> tuple[int, Draw]:
    """A loaded pipeline made to draw as its run did.

    Args:
        settings: the run's.
        steps, guidance: in place of the run's.
        device, precision: where it draws, and in which arithmetic.

    Returns:
        Pictures at a time, and what draws them: B prompts and a source of noise to uint8 (B, H, W, 3).

    Raises:
        BadInput: this machine has no such device.
    """
    place = device_of(device)
    family = FAMILIES[type(pipeline).__name__]
    how: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
    if family == "pixel":
        pipeline.to(place)
        return _EMBEDDED_BATCH, _drawer(pipeline, place, precision, how)
    options: Any = options_of(settings, family)
    offload = options.offload and place != CPU
    settle(pipeline, place, options.model_copy(update={"offload": offload}))
    if family == "glide":
        return options.batch, _drawer(pipeline, place, precision, how | {"upsample": options.upsample})
    return options.batch, _latent_drawer(pipeline, place, precision, settings, how)


def _drawer(pipeline: Any, place: torch.device, precision: Precision, how: dict[str, Any]) -> Draw:
    def draw(prompts: Sequence[str], noise: torch.Generator) -> NDArray[np.uint8]:
        with arithmetic(place, precision):
            return pipeline(list(prompts), generator=noise, output_type="np", **how).images  # type: ignore[no-any-return]

    return draw


def _latent_drawer(
    pipeline: Any, place: torch.device, precision: Precision, settings: GeneratorSettings, how: dict[str, Any]
) -> Draw:
    from fedloom.models.generators.latent_codes import as_uint8, drawn
    from fedloom.models.generators.latent_schedule import sampler

    own = latent_settings(settings, "")
    default = {"num_inference_steps": own.sampling_steps, "guidance_scale": own.guidance}
    how = default | {k: v for k, v in how.items() if v is not None}
    pipeline.scheduler = sampler(own.sampler, pipeline.scheduler, how["num_inference_steps"])

    def draw(prompts: Sequence[str], noise: torch.Generator) -> NDArray[np.uint8]:
        pixels = drawn(pipeline, prompts, arithmetic(place, precision), generator=noise, **how)
        return as_uint8(pipeline, pixels)

    return draw
