"""The parts of a Stable Diffusion server and what is done with each alone: encode, denoise, keep, save."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput
from fedloom.models.device import device_of, settle
from fedloom.models.generators import latent_files as files
from fedloom.models.generators.conditioned import Condition, Conditioned
from fedloom.models.generators.latent_codes import Codes, encode_texts, encoded, resized
from fedloom.models.generators.latent_schedule import prediction_of, sampler, training_levels


class LatentModel(Conditioned):
    """UNet, VAE and text encoders of a pipeline, and W_r (D to w + v): its first rows for tokens, then pooled text.

    Trainable: the UNet, or LoRA's factors on its attention, and W_r. VAE and text encoders are frozen.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    text_encoder_2: Any

    def __init__(self, pipe: Any, width: int, settings: LatentSettings, source: Path, condition: Condition) -> None:
        second = getattr(pipe, "text_encoder_2", None)
        tokens = int(pipe.unet.config.cross_attention_dim)
        rows = tokens + (0 if second is None else int(second.config.projection_dim))
        super().__init__(pipe, width, condition, device_of(settings.device), settings.precision, rows)
        self.settings, self.source, self.tokens_width = settings, source, tokens
        self.keep_texts = settings.keep_texts
        self.vae = pipe.vae.requires_grad_(False).eval()
        self.text_encoder_2 = second if second is None else second.requires_grad_(False).eval()
        self.prediction = prediction_of(pipe.scheduler)
        self.levels = training_levels(pipe.scheduler)  # alpha-bar (T,)
        self.own_scheduler = pipe.scheduler
        self._codes = Codes(self._read, settings.keep_latents)
        sampler(settings.sampler, self.own_scheduler, settings.sampling_steps)  # fails now, not after an hour
        self.native = int(self.unet.config.sample_size * pipe.vae_scale_factor)  # side in pixels
        self._side(None)
        settle(pipe, self.device, settings)
        if settings.checkpointing:
            self.unet.enable_gradient_checkpointing()

    @property
    def xl(self) -> bool:
        """Whether it is XL, which reads pooled text too."""
        return getattr(self.pipe, "text_encoder_2", None) is not None

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that are handed out."""
        return self.settings.side or self.native

    def _side(self, side: int | None) -> int:
        side = side or self.size
        if side > self.native:
            raise BadInput(f"side = {side} pixels, allowed: up to {self.native}, the pipeline's own")
        return side

    def weights_print(self) -> str:
        """A digest of all weights that drawing depends on (a second a gigabyte)."""
        digest = hashlib.sha256()
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            module = getattr(self, part)
            for name, value in module.state_dict().items() if module is not None else ():
                digest.update(f"{part}.{name}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def _base(self) -> torch.dtype:
        """Of the UNet's weights, LoRA's factors aside."""
        return self.unet.conv_in.weight.dtype  # type: ignore[no-any-return]

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        with self._arithmetic():
            return encode_texts(self.pipe, texts, self.device)

    def denoise(self, noisy: Tensor, t: Tensor, tokens: Tensor, pooled: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the UNet says, float32 (B, c, h, w), of latents (B, c, h, w) at steps t (B,), given `conditioned`."""
        added = None
        if self.xl:  # original size, crop and target size: what the pipeline tells it when it draws
            sizes = [self.native, self.native, 0, 0, self.native, self.native]
            ids = torch.tensor([sizes] * len(noisy), dtype=pooled.dtype, device=self.device)
            added = {"text_embeds": pooled, "time_ids": ids}
        with self._arithmetic():
            out = self.unet(noisy.to(self._base), t, tokens, encoder_attention_mask=mask, added_cond_kwargs=added)
        return out.sample.float()  # type: ignore[no-any-return]

    def encode(self, images: Tensor) -> Tensor:
        """Pictures float (B, 3, H, W) in [-1, 1] of any size to latents (B, c, h, w), float32 on the CPU.

        Resized to the pipeline's own size. Each distinct picture is read once, as long as `keep_latents` has room.
        """
        return self._codes(images)

    def _read(self, picture: Tensor) -> Tensor:
        return encoded(self.vae, resized(picture.to(self.device), self.native).clamp(-1, 1))

    def save(self, folder: Path, merge: bool = True) -> None:
        """Write a folder that `StableDiffusionPipeline.from_pretrained` (or XL's) loads, W_r beside it.

        Args:
            folder: is made.
            merge: add LoRA's factors to the UNet's weights; otherwise the UNet is the source's and the factors lie
                beside it, for `load_lora_weights(folder)`.
        """
        factors = files.factors_of(self.unet) if self.settings.train == "lora" else None
        files.write_folder(self.source, folder, self.unet, factors, self.bridge, merge, self.settings.variant)
