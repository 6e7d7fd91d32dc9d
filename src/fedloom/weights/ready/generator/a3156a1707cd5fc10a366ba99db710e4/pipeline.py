"""A text-to-image pipeline over pixels, or over a small autoencoder's latents, as a diffusers pipeline.

This file stands alone (diffusers, transformers and torch only): an exported generator carries a copy of it, so that
`DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)` works without fedloom; with
`fedloom.models.generators.pixel_pipeline` imported, plain `DiffusionPipeline.from_pretrained(folder)` does.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import diffusers
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast


class _Block(nn.Module):
    """Three convolutions about a shortcut. pooled: what the four groups' statistics say is added first."""

    def __init__(self, width: int, pooled: bool) -> None:
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])
        if pooled:
            inner = 4 * width
            into, out = nn.Conv2d(width, inner, 1, bias=False), nn.Conv2d(inner, width, 1, bias=False)
            self.pool = nn.Sequential(into, nn.GroupNorm(4, inner), nn.ReLU(), out)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pool(x) if hasattr(self, "pool") else x
        return F.relu(self.conv(x) + x)


class _Bounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


class PooledTinyAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """TAEF2 (github.com/madebyollin/taesd): AutoencoderTiny with pooled blocks where it is smallest.

    Pictures are float (B, 3, H, W) in [-1, 1], latents (B, latent_channels, H/8, W/8) of about unit deviation.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int = 32, width: int = 64) -> None:
        super().__init__()
        down: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), _Block(width, False)]
        up: list[nn.Module] = [_Bounded(), nn.Conv2d(latent_channels, width, 3, padding=1), nn.ReLU()]
        for level in range(3):
            small = level == 2
            down += [nn.Conv2d(width, width, 3, 2, 1, bias=False), *(_Block(width, small) for _ in range(3))]
        up += [_Block(width, True) for _ in range(3)]
        for level in range(3):
            up += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
            up += [_Block(width, False) for _ in range(1 if level == 2 else 3)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(width, latent_channels, 3, padding=1))
        self.decoder = nn.Sequential(*up, nn.Conv2d(width, 3, 3, padding=1))

    def encode(self, x: Tensor) -> AutoencoderTinyOutput:
        """Pictures to latents."""
        return AutoencoderTinyOutput(latents=self.encoder(x.add(1).div(2)))

    def decode(self, x: Tensor) -> DecoderOutput:
        """Latents to pictures, in [-1, 1] or a little beyond."""
        return DecoderOutput(sample=self.decoder(x).mul(2).sub(1))


class PixelTextToImagePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text to picture: CLIP text tower, conditional UNet on pixel-unshuffled pictures or latents, rectified flow.

    The UNet sees every token by cross-attention and the pooled text through its time embedding.
    """

    _optional_components: ClassVar = ["autoencoder"]

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModelWithProjection,
        tokenizer: PreTrainedTokenizerFast,
        scheduler: FlowMatchEulerDiscreteScheduler,
        autoencoder: Any = None,
        unshuffle: int = 4,
        guidance: float = 2.0,
        sampling_steps: int = 6,
        prediction: str = "picture",
        level_shift: float = 2.0,
        level_floor: float = 0.5,
    ) -> None:
        super().__init__()
        models = {"unet": unet, "text_encoder": text_encoder, "tokenizer": tokenizer, "scheduler": scheduler}
        self.register_modules(**models, autoencoder=autoencoder)
        self.register_to_config(
            unshuffle=unshuffle,
            guidance=guidance,
            sampling_steps=sampling_steps,
            prediction=prediction,
            level_shift=level_shift,
            level_floor=level_floor,
        )

    @torch.no_grad()
    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """B texts to (token states (B, L, w), pooled vectors (B, w))."""
        length = self.tokenizer.model_max_length
        rows = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        rows = {key: rows[key].to(self.device) for key in ("input_ids", "attention_mask")}
        out = self.text_encoder(**rows)
        return out.last_hidden_state, F.normalize(out.text_embeds, dim=-1)

    @torch.no_grad()
    def codes(self, pictures: Tensor) -> Tensor:
        """Pictures float (B, 3, H, W) in [-1, 1] to what the UNet learns, (B, c u^2, h/u, w/u)."""
        x = pictures if self.autoencoder is None else self.autoencoder.encode(pictures).latents
        return F.pixel_unshuffle(x, self.config.unshuffle)

    @torch.no_grad()
    def pictures(self, codes: Tensor) -> Tensor:
        """What the UNet drew, as pictures float (B, 3, H, W) in [-1, 1]."""
        x = F.pixel_shuffle(codes, self.config.unshuffle)
        return (x if self.autoencoder is None else self.autoencoder.decode(x).sample).clamp(-1, 1).contiguous()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput | Tensor:
        """Draw one picture a prompt.

        Args:
            prompt: one or B prompts.
            num_inference_steps, guidance_scale: default to the values the pipeline was saved with.
            generator: source of the starting noise.
            noise: the starting noise itself, of the shape of `codes`.
            output_type: "pil", "np" or "pt" (float (B, 3, H, W) in [-1, 1], returned bare).
        """
        # 1. text, and empty text for guidance
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        guidance = self.config.guidance if guidance_scale is None else guidance_scale
        distinct = list(dict.fromkeys([*prompts, ""]))  # a class prompt is embedded once, however often it is drawn
        tokens, pooled = self.embed(distinct)
        where = torch.tensor([distinct.index(p) for p in prompts])
        nothing = torch.full_like(where, distinct.index(""))
        # 2. starting noise
        shape = (len(prompts), self.unet.config.in_channels, *2 * (self.unet.config.sample_size,))
        x = torch.randn(shape, generator=generator) if noise is None else noise.clone()
        x = x.to(self.device, self.unet.dtype).contiguous(memory_format=torch.channels_last)
        # 3. denoise; with guidance both branches go through the UNet in one batch
        scheduler = copy.deepcopy(self.scheduler)  # it keeps where it is, and several threads may draw
        scheduler.set_timesteps(num_inference_steps or self.config.sampling_steps)
        both = guidance != 1.0
        which = torch.cat([where, nothing]) if both else where
        tokens, pooled = tokens[which], pooled[which]
        for t, level in zip(scheduler.timesteps, scheduler.sigmas):
            inputs = torch.cat([x, x]) if both else x
            out = self.unet(inputs, t, tokens, class_labels=pooled).sample.to(x.dtype)  # autocast gives less
            if both:
                said, empty = out.chunk(2)
                out = empty + guidance * (said - empty)
            if self.config.prediction == "picture":
                out = (x - out) / level  # the velocity that leads to this picture
            x = scheduler.step(out, t, x).prev_sample
        # 4. pixels
        pixels = self.pictures(x)
        if output_type == "pt":
            return pixels
        array = pixels.add(1).mul(127.5).round().permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        return ImagePipelineOutput(images=array if output_type == "np" else self.numpy_to_pil(array / 255.0))


# `DiffusionPipeline.from_pretrained(folder)` looks the classes up by name in diffusers' own namespace.
for _known in (PixelTextToImagePipeline, PooledTinyAutoencoder):
    setattr(diffusers, _known.__name__, _known)
PooledTinyAutoencoder.__module__ = "diffusers"  # so saved pipelines name it as there


def load_pipeline(folder: Any) -> PixelTextToImagePipeline:
    """The pipeline saved in `folder`."""
    return PixelTextToImagePipeline.from_pretrained(folder)  # type: ignore[no-any-return]
