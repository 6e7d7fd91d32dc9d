"""A GLIDE server: the interface of `models.generator.Generator` over GLIDE's base model, and its upsampler.

GLIDE's own classes are in `pipeline`, what its training minimises in `loss`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedloom.config.glide import GlideSettings
from fedloom.errors import BadInput
from fedloom.models.device import device_of, kind_of, settle
from fedloom.models.generators.conditioned import Condition, Conditioned, check_training, read_bridge
from fedloom.models.generators.glide.loss import denoising_loss, noisy
from fedloom.models.generators.glide.pipeline import GlidePipeline, load_glide
from fedloom.models.generators.glide.process import Process
from fedloom.models.generators.latent_batches import Pictures, in_batches, in_cache
from fedloom.models.generators.latent_codes import resized
from fedloom.models.pictures import to_uint8

FORMAT = 2  # raise when a change of code changes what a generator draws


class GlideGenerator(Conditioned):
    """GLIDE with W_r, which speaks to both ways in which its U-Net hears a text: its states, and the last of them.

    Trainable: the base model's U-Net and W_r. Text encoders and upsampler are frozen; the upsampler hears text alone.
    As long as W_r is zero, outputs are those of the pipeline alone, bit for bit. Randomness is drawn on the CPU,
    whatever the device, but for dropout in training.
    """

    family = "glide"
    keep_texts = 1024  # a quarter of a megabyte each, on the device

    def __init__(
        self, pipe: GlidePipeline, width: int, condition: Condition = "add", settings: GlideSettings | None = None
    ) -> None:
        s = settings or GlideSettings()
        super().__init__(pipe, width, condition, device_of(s.device), s.precision)
        self.settings = s
        settle(pipe, self.device, s)
        for part in (pipe.upsampler, pipe.upsampler_text_encoder):
            if part is not None:
                part.requires_grad_(False).eval()
        if s.checkpointing:
            self.unet.enable_gradient_checkpointing()
        if s.upsample and pipe.upsampler is None:
            raise BadInput("glide.upsample = True, but the folder has no upsampler")
        self.process = _process(pipe.scheduler)
        self.native = int(self.unet.config.sample_size)  # side in pixels of the base model's pictures
        drawn = int(pipe.upsampler.config.sample_size) if s.upsample else self.native
        if s.side is not None and s.side > drawn:
            more = "" if s.upsample or pipe.upsampler is None else "; more with glide.upsample"
            raise BadInput(f"GLIDE: pictures of {s.side} pixels, allowed: up to {drawn}{more}")
        self._side = s.side or drawn

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that are handed out."""
        return self._side

    def synthesize(
        self,
        prompts: Sequence[str],
        draws: torch.Generator,
        batch: int | None = None,
        steps: int | None = None,
    ) -> Pictures:
        """One picture a prompt, uint8 (N, side, side, 3), without any representation (eq. 2).

        steps: of sampling; by default the settings'. What an unchanged generator draws is kept in the cache, where a
        killed synthesis goes on as well. All noise of a picture follows from what it starts from.
        """
        s, batch = self.settings, batch or self.settings.batch
        noise = torch.randn((len(prompts), 3, self.native, self.native), generator=draws)

        def some(first: int, end: int) -> Pictures:
            return self._draw(prompts[first:end], noise[first:end], taken)

        config = self.pipe.config
        taken = steps or config.sampling_steps
        if self.origin is None:
            return in_batches(len(prompts), batch, some, self.size)
        sampling = [config.guidance, taken, batch, self.size]
        key: dict[str, Any] = {
            "generator": self.origin,
            "prompts": list(prompts),
            "noise": hashlib.sha256(noise.numpy().tobytes()).hexdigest(),
            "sampling": [*sampling, config.upsampling_steps, config.temperature] if s.upsample else sampling,
            "arithmetic": [kind_of(self.device), s.precision, torch.get_num_threads(), torch.__version__],
            "memory": s.attention_slicing,  # sliced sums differ in their last bits
            "format": f"glide {FORMAT}",
        }
        return in_cache(len(prompts), batch, some, self.size, key)

    def _draw(self, prompts: Sequence[str], noise: Tensor, steps: int) -> Pictures:
        self.eval()
        how = {"num_inference_steps": steps, "upsample": self.settings.upsample}
        with self._arithmetic():
            pixels = self.pipe(list(prompts), noise=noise, output_type="pt", **how)
        return to_uint8(resized(self.check_finite(pixels), self.size))

    def loss(
        self,
        images: Tensor,
        texts: Sequence[str],
        draws: torch.Generator,
        representation: Tensor | None = None,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The denoising loss L_T2I: mean squared error of the noise at a step drawn evenly for each picture, a scalar.

        Args:
            images: float (B, 3, H, W) in [-1, 1]; resized to the base model's side.
            texts: B texts.
            draws: on the CPU; gives noise, then steps.
            representation, leave_out: see `conditioned`.

        Raises:
            BadInput: it cannot be trained as it was loaded: in fp16, or with `offload`.
        """
        if torch.is_grad_enabled():
            check_training(self.precision, self.settings.offload)
        tokens, pooled, mask = self.conditioned(texts, representation, leave_out)
        x0 = resized(images.to(self.device), self.native).clamp(-1, 1)
        noise = torch.randn(x0.shape, generator=draws).to(self.device)
        t = torch.randint(len(self.process.bar), (len(x0),), generator=draws)
        xt = noisy(self.process, x0, noise, t)
        with self._arithmetic():
            said = self.unet(xt, t.to(self.device), tokens, class_labels=pooled, encoder_attention_mask=mask).sample
        return denoising_loss(self.process, said, x0, noise, t)


def _process(scheduler: Any) -> Process:
    """The training process. BadInput where the scheduler has none, or is for another prediction than of noise."""
    name = type(scheduler).__name__
    if not hasattr(scheduler, "betas"):
        raise BadInput(f"scheduler {name}: no DDPM schedule (betas), allowed: that of GLIDE")
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind != "epsilon":
        raise BadInput(f"scheduler {name}: prediction_type {kind!r}, allowed: epsilon")
    return Process.of(scheduler)


def load_glide_generator(
    folder: str | Path, width: int, condition: Condition = "add", settings: GlideSettings | None = None
) -> GlideGenerator:
    """The generator in a GLIDE folder (`convert`, or `GlideGenerator.save`); W_r as saved beside it, or at zero.

    Args:
        width: D of the representations.
        condition: how R joins the text, eq. 11.
        settings: how it is run and where; by default as the folder says, on the CPU.

    Raises:
        BadInput: the folder, the device, the side, or what lies beside it, does not do.
    """
    s = settings or GlideSettings()
    device_of(s.device)  # said before weights are read
    pipe = load_glide(folder)
    given = {k: getattr(s, k) for k in ("guidance", "sampling_steps", "upsampling_steps")}
    pipe.register_to_config(**{k: v for k, v in given.items() if v is not None})
    generator = GlideGenerator(pipe, width, condition, s)
    read_bridge(generator.bridge, folder)
    return generator.eval()
