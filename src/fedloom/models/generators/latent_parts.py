"""The parts of a Stable Diffusion server and what is done with each alone: encode, denoise, count, keep, save."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fedloom.config.stable_diffusion import LatentSettings
from fedloom.errors import BadInput
from fedloom.models.device import arithmetic, device_of, settle
from fedloom.models.generators import latent_files as files
from fedloom.models.generators.latent_codes import encode_texts, encoded, keep, resized
from fedloom.models.generators.latent_schedule import prediction_of, sampler, training_levels
from fedloom.models.generators.latent_sizes import count, weight_bytes


class LatentModel(nn.Module):
    """UNet, VAE and text encoders of a pipeline, and W_r (D to w + v), which starts at zero.

    Trainable: the UNet, or LoRA's factors on its attention, and W_r. VAE and text encoders are frozen.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    text_encoder_2: Any

    def __init__(self, pipe: Any, width: int, settings: LatentSettings, source: Path) -> None:
        super().__init__()
        self.pipe, self.settings, self.source = pipe, settings, source
        self.device = device_of(settings.device)
        self.unet = pipe.unet
        self.vae = pipe.vae.requires_grad_(False).eval()
        self.text_encoder = pipe.text_encoder.requires_grad_(False).eval()
        self.text_encoder_2 = getattr(pipe, "text_encoder_2", None)
        if self.text_encoder_2 is not None:
            self.text_encoder_2.requires_grad_(False).eval()
        self.xl = self.text_encoder_2 is not None
        self.tokens_width = int(self.unet.config.cross_attention_dim)
        self.pooled_width = int(self.text_encoder_2.config.projection_dim) if self.xl else 0
        # One map: its first rows for tokens, the others for the pooled text.
        self.bridge = nn.Linear(width, self.tokens_width + self.pooled_width, bias=False, device=self.device)
        nn.init.zeros_(self.bridge.weight)
        self.prediction = prediction_of(pipe.scheduler)
        self.levels = training_levels(pipe.scheduler)  # alpha-bar (T,)
        self.own_scheduler = pipe.scheduler
        # What it was loaded from, by content, as long as nothing has changed it.
        self.origin: str | None = None
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}
        self._latents: dict[bytes, Tensor] = {}
        sampler(settings.sampler, self.own_scheduler, settings.sampling_steps)  # said now, not after an hour
        self.native = int(self.unet.config.sample_size * pipe.vae_scale_factor)  # side in pixels
        self._side(None)
        settle(pipe, self.device, settings)
        if settings.checkpointing:
            self.unet.enable_gradient_checkpointing()

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that are handed out."""
        return self.settings.side or self.native

    def _side(self, side: int | None) -> int:
        side = side or self.size
        if side > self.native:
            raise BadInput(f"side = {side} pixels, allowed: up to {self.native}, the pipeline's own")
        return side

    def touched(self) -> None:
        """Say that it is about to be changed: what it draws is no longer what others drew who began like it."""
        self.origin = None

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; the frozen parts stay as they are."""
        super().train(mode)
        for part in (self.vae, self.text_encoder, self.text_encoder_2):
            if part is not None:
                part.eval()
        return self

    def trainable(self) -> list[nn.Parameter]:
        """W_r's parameters after the UNet's, or after those of its LoRA factors."""
        return [p for p in self.unet.parameters() if p.requires_grad] + [self.bridge.weight]

    def learned(self) -> dict[str, Tensor]:
        """What training changes, on the CPU: a checkpoint's content (with LoRA some megabytes)."""
        named = {f"unet.{k}": p for k, p in self.unet.named_parameters() if p.requires_grad}
        named["bridge.weight"] = self.bridge.weight
        return {k: p.detach().cpu().clone().contiguous() for k, p in named.items()}

    @torch.no_grad()
    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up `learned()` again. BadInput where the names differ (LoRA's factors for a whole UNet, say)."""
        self.touched()
        own = {f"unet.{k}": p for k, p in self.unet.named_parameters() if p.requires_grad}
        own["bridge.weight"] = self.bridge.weight
        if other := own.keys() ^ tensors.keys():
            raise BadInput(f"generator's weights: {len(other)} names differ, such as {min(other)}")
        for name, p in own.items():
            p.copy_(tensors[name])

    def counts(self) -> dict[str, int]:
        """Part -> parameters, and "trainable", W_r's among them."""
        parts = {k: m for k, m in self.named_children() if m is not None}
        trained = sum(p.numel() for p in self.trainable())
        return {k: count(m) for k, m in parts.items()} | {"trainable": trained}

    def weight_bytes(self) -> dict[str, int]:
        """Bytes of all weights by dtype."""
        return weight_bytes(self)

    def weights_print(self) -> str:
        """A digest of all weights that drawing depends on (a second a gigabyte)."""
        digest = hashlib.sha256()
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            module = getattr(self, part)
            for name, value in module.state_dict().items() if module is not None else ():
                digest.update(f"{part}.{name}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    # -------------------------------------------------------------------------------------------------- what parts do

    @property
    def _base(self) -> torch.dtype:
        """Of the UNet's weights, LoRA's factors aside."""
        return self.unet.conv_in.weight.dtype  # type: ignore[no-any-return]

    def _arithmetic(self) -> AbstractContextManager[Any]:
        return arithmetic(self.device, self.settings.precision)

    @torch.no_grad()
    def read(self, texts: Sequence[str], batch: int = 64) -> None:
        """Encode texts ahead, many at a time. In its last bits a text read so differs from one that `embed` reads."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for i in range(0, len(new), batch):
            part = new[i : i + batch]
            for text, *said in zip(part, *self._encode(part)):
                keep(self._texts, text, (said[0], said[1]), self.settings.keep_texts)

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        with self._arithmetic():
            return encode_texts(self.pipe, texts, self.device)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts to (tokens (B, L, w), pooled (B, v)), v = 0 without pooled text; float32 on the device.

        Each distinct text is encoded once, the encoders being frozen.
        """
        found = {text: self._texts[text] for text in texts if text in self._texts}
        for text in dict.fromkeys(text for text in texts if text not in found):
            tokens, pooled = self._encode([text])  # alone: what stands beside it changes the last bits
            found[text] = tokens[0], pooled[0]
            keep(self._texts, text, found[text], self.settings.keep_texts)
        tokens = torch.stack([found[text][0] for text in texts])
        pooled = torch.stack([found[text][1] for text in texts])
        return tokens.to(self.device), pooled.to(self.device)

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

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures float (B, 3, H, W) in [-1, 1] of any size to latents (B, c, h, w), float32 on the CPU.

        Resized to the pipeline's own size. Each distinct picture is read once, as long as `keep_latents` has room.
        """
        codes = []
        for image in images:
            raw = image.detach().cpu().contiguous()
            name = hashlib.blake2b(raw.numpy().tobytes() + str(tuple(raw.shape)).encode()).digest()
            code = self._latents.get(name)
            if code is None:  # alone: what stands beside it changes the last bits
                pixels = resized(raw[None].float().to(self.device), self.native).clamp(-1, 1)
                code = encoded(self.vae, pixels)[0].cpu()
                keep(self._latents, name, code, self.settings.keep_latents)
            codes.append(code)
        return torch.stack(codes)

    def save(self, folder: Path, merge: bool = True) -> None:
        """Write a folder that `StableDiffusionPipeline.from_pretrained` (or XL's) loads, W_r beside it.

        Args:
            folder: is made.
            merge: add LoRA's factors to the UNet's weights; otherwise the UNet is the source's and the factors lie
                beside it, for `load_lora_weights(folder)`.
        """
        factors = files.factors_of(self.unet) if self.settings.train == "lora" else None
        variant = self.settings.variant
        files.write_folder(self.source, folder, self.unet, factors, self.bridge.weight, merge, variant)
