"""A Stable Diffusion server: the interface of `generator.Generator` over a latent diffusion pipeline of diffusers.

Pictures are diffused as latents of a frozen VAE. 1.5 and 2.1 read text by cross-attention alone; XL also reads one
pooled vector, and the sizes it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput
from fedloom.models.device import device_of, kind_of
from fedloom.models.generators import latent_files as files
from fedloom.models.generators.conditioned import Condition, check_training, read_bridge
from fedloom.models.generators.latent_batches import Pictures, in_batches, in_cache
from fedloom.models.generators.latent_codes import as_uint8, drawn, resized
from fedloom.models.generators.latent_parts import LatentModel
from fedloom.models.generators.latent_schedule import noised, picture_seeds, sampler, snr_weight, target

FORMAT = 2  # raise when a change of code changes what a generator draws


class LatentGenerator(LatentModel):
    """The pipeline's parts with what federated tuning adds: the map W_r from representations (FedMMKT, eq. 11).

    As long as W_r is zero, outputs are those of the pipeline alone, bit for bit. Randomness is drawn on the CPU,
    whatever the device.
    """

    family = "latent"

    def __init__(
        self, pipe: Any, width: int, settings: LatentSettings, source: Path, condition: Condition = "add"
    ) -> None:
        super().__init__(pipe, width, settings, source, condition)

    @property
    def condition(self) -> Condition:
        """How R joins the text: add (every token, and the pooled text), token (one more), pooled (XL only)."""
        return self._condition

    @condition.setter
    def condition(self, mode: Condition) -> None:
        allowed = ("add", "token", "pooled") if self.xl else ("add", "token")
        if mode not in allowed:
            family = "XL" if self.xl else "Stable Diffusion 1 and 2, without pooled text,"
            raise BadInput(f"condition {mode!r}: {family} allows {', '.join(allowed)}")
        self._condition: Condition = mode

    def synthesize(
        self,
        prompts: Sequence[str],
        draws: torch.Generator,
        batch: int | None = None,
        side: int | None = None,
        folder: str | Path | None = None,
        steps: int | None = None,
    ) -> Pictures:
        """One picture a prompt, uint8 (N, side, side, 3), without any representation (eq. 2).

        Args:
            prompts: N texts.
            draws: gives one seed a picture, whatever is drawn or read.
            batch: pictures at a time; by default the settings'.
            side: in pixels, at most the pipeline's own; by default `size`.
            folder: keeps finished batches; the same call goes on where a killed one was. Without one, what an unchanged
                generator draws is kept in the cache, where a killed synthesis goes on as well.
            steps: of sampling; by default the settings'.
        """
        s, seeds = self.settings, picture_seeds(len(prompts), draws)
        batch, side, taken = batch or s.batch, self._side(side), steps or s.sampling_steps
        key: dict[str, Any] = {
            "prompts": list(prompts),
            "seeds": seeds,
            "sampling": [s.sampler, taken, s.guidance, batch, side],
            # merged factors round otherwise than those that stand beside their base
            "arithmetic": [
                s.train,
                s.precision,
                s.variant,
                kind_of(self.device),
                torch.get_num_threads(),
                torch.__version__,
            ],
            # sliced sums differ in their last bits
            "memory": [s.attention_slicing, s.vae_slicing, s.vae_tiling],
            "format": FORMAT,
        }

        def some(first: int, end: int) -> Pictures:
            return self._draw(prompts[first:end], seeds[first:end], side, taken)

        if folder is not None:
            key |= {"weights": self.weights_print()}
            return in_batches(len(prompts), batch, some, side, Path(folder), key)
        if self.origin is None:
            return in_batches(len(prompts), batch, some, side)
        return in_cache(len(prompts), batch, some, side, key | {"generator": self.origin})

    @torch.no_grad()
    def _draw(self, prompts: Sequence[str], seeds: Sequence[int], side: int, steps: int) -> Pictures:
        """The stock pipeline's pictures from noise of these seeds."""
        self.eval()
        s, config = self.settings, self.unet.config
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (config.in_channels, config.sample_size, config.sample_size)
        noise = torch.stack([torch.randn(shape, generator=stream) for stream in streams])  # (B, c, h, w)
        self.pipe.scheduler = sampler(s.sampler, self.own_scheduler, steps)
        try:
            pixels = drawn(
                self.pipe,
                prompts,
                self._arithmetic(),
                num_inference_steps=steps,
                guidance_scale=s.guidance,
                latents=noise.to(self.device, self._base),
                generator=streams,
            )
        finally:
            self.pipe.scheduler = self.own_scheduler
        return as_uint8(self.pipe, resized(self.check_finite(pixels), side))

    def loss(
        self,
        images: Tensor | None,
        texts: Sequence[str],
        draws: torch.Generator,
        representation: Tensor | None = None,
        leave_out: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """The denoising loss L_T2I: mean squared error at a step drawn evenly for each picture, a scalar.

        Args:
            images: float (B, 3, H, W) in [-1, 1], any size; not looked at where `latents` are given.
            texts: B texts.
            draws: on the CPU; gives noise, then steps.
            representation, leave_out: see `conditioned`.
            latents: (B, c, h, w) from `encode`.

        Raises:
            BadInput: it cannot be trained as it was loaded: in fp16, or with `offload`.
        """
        if torch.is_grad_enabled():
            check_training(self.settings.precision, self.settings.offload)
        if latents is None:
            if images is None:
                raise ValueError("loss: neither images nor latents")
            latents = self.encode(images)
        tokens, pooled, mask = self.conditioned(texts, representation, leave_out)
        noise = torch.randn(latents.shape, generator=draws)
        t = torch.randint(len(self.levels), (len(latents),), generator=draws)
        kept = self.levels[t].to(self.device)  # alpha-bar_t (B,)
        x0, noise, t = latents.to(self.device), noise.to(self.device), t.to(self.device)
        out = self.denoise(noised(x0, noise, kept), t, tokens, pooled, mask)
        error = (out - target(self.prediction, x0, noise, kept)).square().mean(dim=(1, 2, 3))  # (B,)
        if self.settings.min_snr is not None:
            error = error * snr_weight(self.prediction, kept, self.settings.min_snr)
        return error.mean()


def load_latent(settings: LatentSettings, width: int, condition: Condition = "add", seed: int = 0) -> LatentGenerator:
    """The generator in a diffusers folder or under a hub name; W_r and LoRA's factors as saved beside it, or at zero.

    Args:
        settings: what to load and how.
        width: D of the representations.
        condition: how R joins the text, eq. 11.
        seed: of LoRA's factors A (B is zero).

    Raises:
        BadInput: the folder, the device, the mode, or what lies beside it, does not do.
    """
    device_of(settings.device)  # said before gigabytes are read
    folder = files.resolve(settings)
    pipe = files.load_pipeline(folder, settings)
    factors = files.read_factors(folder, settings)
    lora = settings.train == "lora"
    if lora:
        files.put_lora(pipe.unet, settings.rank, seed)
    if factors is not None:
        files.take_factors(pipe.unet, factors, merge=not lora)
    generator = LatentGenerator(pipe, width, settings, folder, condition)
    read_bridge(generator.bridge, folder)
    return generator.eval()
