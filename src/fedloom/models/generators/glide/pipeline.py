"""GLIDE's order of steps: text to a 64 px picture, and from that and the text again to one of 256 px."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fedloom.errors import BadInput
from fedloom.models.generators.glide.networks import GlideTextEncoder, GlideUNet
from fedloom.models.generators.glide.process import step_arguments, takes_variance, walk
from fedloom.models.generators.glide.tokenizer import encode
from fedloom.models.memory import in_own_memory

OUTPUTS = ("pil", "np", "pt")
Draws = torch.Generator | list[torch.Generator]


class GlidePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text to picture in pixel space: GLIDE's base model and, where there is one, its upsampler.

    Args:
        unet, text_encoder, scheduler: of the base model.
        tokenizer: of both.
        upsampler, upsampler_text_encoder, upsampler_scheduler: of the upsampler, or all None.
        guidance: how far to go from what is drawn without text to what is drawn with it; 1 is with it.
        sampling_steps, upsampling_steps: steps of a walk, or the name of one (`process.kept_steps`).
        temperature: deviation of the noise that the upsampler starts from; below 1 is smoother, less grainy.

    The defaults are those of the release's notebook. Any scheduler for noise prediction may take the given ones' place;
    DPM-Solver++ wants `lambda_min_clipped=-5.1` on the base model's schedule.
    """

    model_cpu_offload_seq = "text_encoder->unet->upsampler_text_encoder->upsampler"
    _optional_components: ClassVar[list[str]] = ["upsampler", "upsampler_text_encoder", "upsampler_scheduler"]

    def __init__(
        self,
        unet: GlideUNet,
        text_encoder: GlideTextEncoder,
        tokenizer: PreTrainedTokenizerFast,
        scheduler: SchedulerMixin,
        upsampler: GlideUNet | None = None,
        upsampler_text_encoder: GlideTextEncoder | None = None,
        upsampler_scheduler: SchedulerMixin | None = None,
        guidance: float = 3.0,
        sampling_steps: int | str = 100,
        upsampling_steps: int | str = "fast27",
        temperature: float = 0.997,
    ) -> None:
        super().__init__()
        for encoder in (text_encoder, upsampler_text_encoder):
            if encoder is not None and encoder.config.vocabulary != len(tokenizer):
                raise BadInput(
                    f"GLIDE: a tokenizer of {len(tokenizer)} tokens, a text encoder of {encoder.config.vocabulary}"
                )
        self.register_modules(
            unet=unet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            upsampler=upsampler,
            upsampler_text_encoder=upsampler_text_encoder,
            upsampler_scheduler=upsampler_scheduler,
        )
        self.register_to_config(
            guidance=guidance, sampling_steps=sampling_steps, upsampling_steps=upsampling_steps, temperature=temperature
        )

    @torch.no_grad()
    def embed(self, texts: Sequence[str], upsampling: bool = False) -> tuple[Tensor, Tensor]:
        """B texts to (token states (B, L, w), pooled vectors (B, w)), for the base model or for the upsampler."""
        ids, mask = encode(self.tokenizer, texts)
        encoder = self.upsampler_text_encoder if upsampling else self.text_encoder
        tokens, pooled = encoder(ids.to(self._execution_device), mask.to(self._execution_device))
        return tokens, pooled

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        num_inference_steps: int | str | None = None,
        guidance_scale: float | None = None,
        upsample: bool = False,
        upsampling_steps: int | str | None = None,
        generator: Draws | None = None,
        noise: Tensor | None = None,
        upsampling_noise: Tensor | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput | Tensor:
        """Draw one picture a prompt.

        Args:
            prompt: one or B prompts.
            num_inference_steps, guidance_scale, upsampling_steps: default to the values the pipeline was saved with.
            upsample: whether to go on from the base model's pictures to the upsampler's.
            generator: one source of all noise, or B.
            noise, upsampling_noise: the starting noise itself, (B, 3, side, side). With `noise` and no generator all
                other noise follows from it, picture by picture: the same noise gives the same pictures.
            output_type: "pil", "np" (uint8 (B, side, side, 3)) or "pt" (float32 (B, 3, side, side) in [-1, 1], returned
                bare).
        """
        # 1. what is asked for
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        self._check(prompts, upsample, output_type)
        draws = _sources(noise) if generator is None and noise is not None else generator
        guidance = self.config.guidance if guidance_scale is None else guidance_scale
        steps = self.config.sampling_steps if num_inference_steps is None else num_inference_steps
        # 2. 64 px, guided by the text
        x = self._start(self.unet, noise, len(prompts), draws)
        context = self._context(prompts, guidance != 1.0, upsampling=False)
        x = self._denoise(self.unet, self.scheduler, steps, x, context, guidance, draws)
        # 3. 256 px, from the text without guidance, and from the picture as 8 bits would hold it
        if upsample:
            low = x.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
            steps = self.config.upsampling_steps if upsampling_steps is None else upsampling_steps
            x = self._start(self.upsampler, upsampling_noise, len(prompts), draws)
            x = x if upsampling_noise is not None else x * self.config.temperature
            context = self._context(prompts, False, upsampling=True)
            x = self._denoise(self.upsampler, self.upsampler_scheduler, steps, x, context, 1.0, draws, low)
        # 4. pixels
        pixels = x.clamp(-1, 1)
        self.maybe_free_model_hooks()
        if output_type == "pt":
            return pixels
        array = pixels.add(1).mul(127.5).round().permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        return ImagePipelineOutput(images=array if output_type == "np" else self.numpy_to_pil(array / 255.0))

    def _check(self, prompts: list[str], upsample: bool, output_type: str) -> None:
        """BadInput where nothing can be drawn."""
        if not prompts:
            raise BadInput("GLIDE: no prompt was given")
        if output_type not in OUTPUTS:
            raise BadInput(f"GLIDE: output_type = {output_type!r}, allowed: {', '.join(OUTPUTS)}")
        if upsample and self.upsampler is None:
            raise BadInput("GLIDE: upsample = True, but the pipeline has no upsampler")

    def _start(self, unet: GlideUNet, noise: Tensor | None, count: int, draws: Draws | None) -> Tensor:
        """The noise to start from, float32 (B, 3, side, side)."""
        side = unet.config.sample_size
        shape = (count, unet.config.in_channels, side, side)
        if noise is None:
            return diffusers.utils.torch_utils.randn_tensor(shape, draws, self._execution_device)  # type: ignore[no-any-return]
        if tuple(noise.shape) != shape:
            raise BadInput(f"GLIDE: noise of shape {tuple(noise.shape)}, wanted {shape}")
        return noise.to(self._execution_device, torch.float32)

    def _context(self, prompts: list[str], guided: bool, upsampling: bool) -> tuple[Tensor, Tensor]:
        """Texts encoded, each distinct one once; where the text guides, empty text of as many rows follows."""
        distinct = list(dict.fromkeys([*prompts, *([""] if guided else [])]))
        tokens, pooled = self.embed(distinct, upsampling)
        which = [distinct.index(p) for p in prompts] + ([distinct.index("")] * len(prompts) if guided else [])
        return tokens[which], pooled[which]

    def _denoise(
        self,
        unet: GlideUNet,
        scheduler: Any,
        steps: int | str,
        x: Tensor,
        context: tuple[Tensor, Tensor],
        guidance: float,
        draws: Draws | None,
        low_res: Tensor | None = None,
    ) -> Tensor:
        """Noise (B, 3, side, side) to pictures; with guidance both branches go through the U-Net in one batch."""
        scheduler, times = walk(scheduler, steps)
        tokens, pooled = context
        learned = takes_variance(scheduler)
        arguments = step_arguments(scheduler, draws)
        x = x * scheduler.init_noise_sigma
        for t, time in zip(self.progress_bar(scheduler.timesteps), times):
            inputs = scheduler.scale_model_input(x, t)
            inputs = torch.cat([inputs] * (len(tokens) // len(x)))
            out = unet(inputs, time, tokens, pooled, low_res=low_res).sample
            noise, share = out.chunk(2, dim=1)
            if guidance != 1.0:
                said, empty = noise.chunk(2)
                noise = empty + guidance * (said - empty)
                share = share[: len(x)]  # the variance is that of the branch with text
            answer = torch.cat([noise, share], dim=1) if learned else noise
            x = scheduler.step(answer, t, x, **arguments).prev_sample
        return x


def _sources(noise: Tensor) -> list[torch.Generator]:
    """A random source for each picture, begun from its starting noise (B, ...): its batch does not matter to it."""
    hashes = [hashlib.sha256(row.tobytes()).digest() for row in noise.detach().cpu().float().numpy()]
    return [torch.Generator().manual_seed(int.from_bytes(digest[:7], "little")) for digest in hashes]


# `DiffusionPipeline.from_pretrained(folder)` looks the class up by name in diffusers' own namespace.
setattr(diffusers, GlidePipeline.__name__, GlidePipeline)


def load_glide(folder: str | Path, dtype: torch.dtype = torch.float32) -> GlidePipeline:
    """The pipeline saved in `folder`, its networks in this type."""
    if not (Path(folder) / "model_index.json").is_file():
        raise BadInput(f"GLIDE: {folder} is no diffusers folder: it has no model_index.json")
    kind = {} if dtype == torch.float32 else {"torch_dtype": dtype}  # newer diffusers call it dtype, older know not
    return in_own_memory(GlidePipeline.from_pretrained(str(folder), **kind))  # type: ignore[no-any-return]
