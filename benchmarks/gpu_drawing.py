"""Pictures a second: fedloom's generators against plain loops over the very same networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import Row, against, flop, in_turn
from random_weights import put
from torch import Tensor

from fedloom.models.device import arithmetic

SD, GLIDE = "stable-diffusion-v1-5/stable-diffusion-v1-5", "openai/glide"
# Pictures in one batch, steps, guidance. Of Stable Diffusion as is usual for it; of GLIDE as in its notebook.
SIZES = {"real": {SD: (8, 20, 7.5), GLIDE: (32, 100, 3.0)}, "tiny": {SD: (2, 2, 7.5), GLIDE: (2, 2, 3.0)}}
WIDTH = 768
Pictures = Any
Draw = Callable[[], Pictures]


def rows(weights: Path, size: Any, device: torch.device, repeats: int, precision: Any) -> list[Row]:
    """Both families; `plain` and `fedloom` do the same arithmetic, `lowest` keeps the weights in `precision` too."""
    found: list[Row] = []
    for name, ways, kind in (
        (SD, latent_ways(put(weights, SD, size), SIZES[size][SD], device, precision), precision),
        (GLIDE, glide_ways(put(weights, GLIDE, size), SIZES[size][GLIDE], device, precision), precision),
    ):
        batch, steps, guidance = SIZES[size][name]
        work = flop(ways["plain"])
        what = f"{name}, {batch} pictures, {steps} steps, guidance {guidance}"
        measured = in_turn(ways, device, repeats)
        for way, row in measured.items():
            row |= {
                "images_per_s": batch / row["median"],
                "of_plain": row["median"] / measured["plain"]["median"],
            }
            found.append({"what": what, "way": way, "of_plain": row["of_plain"]} | against(row, device, kind, work))
    return found


def prompts(count: int) -> list[str]:
    """As many different texts."""
    return [f"a picture of flower {n}, with round petals" for n in range(count)]


def latent_ways(folder: Path, sizes: tuple[int, int, float], device: torch.device, precision: Any) -> dict[str, Draw]:
    """Stable Diffusion by our generator, by diffusers' pipeline over its networks, and by one of low weights."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from fedloom.config.stable_diffusion import LatentSettings
    from fedloom.models.generators.stable_diffusion import load_latent

    batch, steps, guidance = sizes
    settings = LatentSettings(
        pretrained=str(folder),
        device=str(device),
        precision=precision,
        sampling_steps=steps,
        guidance=guidance,
        sampler="ddim",
        batch=batch,
    )
    generator = load_latent(settings, WIDTH)
    scheduler = DDIMScheduler.from_config(generator.pipe.scheduler.config)
    plain = StableDiffusionPipeline(
        **generator.pipe.components | {"scheduler": scheduler}, requires_safety_checker=False
    )
    ways = {
        "plain": lambda: draw(plain, sizes, device, precision),
        "fedloom": lambda: generator.synthesize(prompts(batch), torch.Generator().manual_seed(0)),
    }
    if precision != "fp32":
        low = StableDiffusionPipeline.from_pretrained(
            folder, torch_dtype=torch.bfloat16, safety_checker=None, requires_safety_checker=False
        ).to(device)
        low.scheduler = DDIMScheduler.from_config(scheduler.config)
        ways["lowest"] = lambda: draw(low, sizes, device, "fp32")
    return ways


@torch.no_grad()
def draw(pipe: Any, sizes: tuple[int, int, float], device: torch.device, precision: Any) -> Pictures:
    """uint8 pictures (N, side, side, 3) of diffusers' own pipeline, from our generator's noise; the VAE in its type."""
    from fedloom.models.generators.latent_schedule import picture_seeds

    batch, steps, guidance = sizes
    pipe.set_progress_bar_config(disable=True)
    config = pipe.unet.config
    shape = (config.in_channels, config.sample_size, config.sample_size)
    seeds = picture_seeds(batch, torch.Generator().manual_seed(0))
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])
    with arithmetic(device, precision):
        latents = pipe(
            prompts(batch),
            num_inference_steps=steps,
            guidance_scale=guidance,
            latents=noise.to(device, pipe.unet.dtype),
            output_type="latent",
        ).images
    pixels = pipe.vae.decode(latents.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor).sample
    return to_uint8(pixels)


def to_uint8(pixels: Tensor) -> Pictures:
    """float (N, 3, side, side) about [-1, 1] to uint8 (N, side, side, 3)."""
    array = (pixels.float() / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
    return (array * 255).round().astype(np.uint8)


def glide_ways(folder: Path, sizes: tuple[int, int, float], device: torch.device, precision: Any) -> dict[str, Draw]:
    """GLIDE's base model by our generator, and by a loop over its networks."""
    from fedloom.config.glide import GlideSettings
    from fedloom.models.generators.glide.generator import load_glide_generator

    batch, steps, guidance = sizes
    settings = GlideSettings(
        device=str(device), precision=precision, batch=batch, sampling_steps=steps, guidance=guidance
    )
    generator = load_glide_generator(folder, WIDTH, settings=settings)
    return {
        "plain": lambda: glide_loop(generator.pipe, sizes, device, precision),
        "fedloom": lambda: generator.synthesize(prompts(batch), torch.Generator().manual_seed(0)),
    }


@torch.no_grad()
def glide_loop(pipe: Any, sizes: tuple[int, int, float], device: torch.device, precision: Any) -> Pictures:
    """uint8 pictures (N, 64, 64, 3): both branches in one batch, the stock scheduler's steps."""
    from fedloom.models.generators.glide.process import step_arguments, walk
    from fedloom.models.generators.glide.tokenizer import encode

    batch, steps, guidance = sizes
    ids, mask = encode(pipe.tokenizer, [*prompts(batch), *[""] * batch])
    with arithmetic(device, precision):
        tokens, pooled = pipe.text_encoder(ids.to(device), mask.to(device))
    side = pipe.unet.config.sample_size
    x = torch.randn((batch, 3, side, side), generator=torch.Generator().manual_seed(0)).to(device)
    scheduler, times = walk(pipe.scheduler, steps)
    arguments = step_arguments(scheduler, [torch.Generator().manual_seed(n) for n in range(batch)])
    for t, time in zip(scheduler.timesteps, times):
        with arithmetic(device, precision):
            out = pipe.unet(torch.cat([x, x]), time, tokens, pooled).sample
        noise, share = out.float().chunk(2, dim=1)
        said, empty = noise.chunk(2)
        answer = torch.cat([empty + guidance * (said - empty), share[:batch]], dim=1)
        x = scheduler.step(answer, t, x, **arguments).prev_sample
    return to_uint8(x)
