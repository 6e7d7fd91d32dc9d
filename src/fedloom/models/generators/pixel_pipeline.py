"""A text-to-image pipeline in pixel space, as a diffusers pipeline.

This file stands alone (diffusers, transformers and torch only): an exported generator carries a copy of it, so that
`DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)` works without fedloom; with
`fedloom.models.generators.pixel_pipeline` imported, plain `DiffusionPipeline.from_pretrained(folder)` does.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast


class PixelTextToImagePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text to picture: CLIP text tower, conditional UNet on pixel-unshuffled pictures, rectified flow.

    The UNet sees every token by cross-attention and the pooled text through its time embedding.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModelWithProjection,
        tokenizer: PreTrainedTokenizerFast,
        scheduler: FlowMatchEulerDiscreteScheduler,
        unshuffle: int = 4,
        guidance: float = 2.0,
        sampling_steps: int = 6,
        prediction: str = "picture",
        level_shift: float = 2.0,
        level_floor: float = 0.5,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)
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
            noise: the starting noise itself, (B, 3 u^2, H/u, W/u).
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
        side = self.unet.config.sample_size
        shape = (len(prompts), self.unet.config.in_channels, side, side)
        x = torch.randn(shape, generator=generator) if noise is None else noise.clone()
        x = x.to(self.device, self.unet.dtype).contiguous(memory_format=torch.channels_last)
        # 3. denoise; with guidance both branches go through the UNet in one batch
        self.scheduler.set_timesteps(num_inference_steps or self.config.sampling_steps)
        both = guidance != 1.0
        which = torch.cat([where, nothing]) if both else where
        context, vector = tokens[which], pooled[which]
        for t, level in zip(self.scheduler.timesteps, self.scheduler.sigmas):
            inputs = torch.cat([x, x]) if both else x
            out = self.unet(inputs, t, context, class_labels=vector).sample.to(x.dtype)  # autocast gives less
            if both:
                said, empty = out.chunk(2)
                out = empty + guidance * (said - empty)
            if self.config.prediction == "picture":
                out = (x - out) / level  # the velocity that leads to this picture
            x = self.scheduler.step(out, t, x).prev_sample
        # 4. pixels
        pixels = F.pixel_shuffle(x, self.config.unshuffle).clamp(-1, 1).contiguous()
        if output_type == "pt":
            return pixels
        array = pixels.add(1).mul(127.5).round().permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        return ImagePipelineOutput(images=array if output_type == "np" else self.numpy_to_pil(array / 255.0))


# `DiffusionPipeline.from_pretrained(folder)` looks the class up by name in diffusers' own namespace.
setattr(diffusers, PixelTextToImagePipeline.__name__, PixelTextToImagePipeline)


def load_pipeline(folder: Any) -> PixelTextToImagePipeline:
    """The pipeline saved in `folder`."""
    return PixelTextToImagePipeline.from_pretrained(folder)  # type: ignore[no-any-return]
