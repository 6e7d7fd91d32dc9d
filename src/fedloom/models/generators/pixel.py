"""The server's text-to-image model: synthesis, conditioning on fused representations, and its denoising loss."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.config.base import Precision
from fedloom.config.models import GeneratorSettings
from fedloom.data.containers import PublicData
from fedloom.errors import BadInput
from fedloom.models.device import CPU, device_of, kind_of
from fedloom.models.evaluators.clip import Clip, world_text
from fedloom.models.fit import Draws, fit_from_scratch
from fedloom.models.generators import pixel_pipeline as pipeline_file
from fedloom.models.generators.autoencoder import FACTOR, load_autoencoder
from fedloom.models.generators.conditioned import Condition, Conditioned, check_training, read_bridge
from fedloom.models.generators.latent_batches import Pictures, in_batches, in_cache
from fedloom.models.generators.latent_codes import Codes
from fedloom.models.generators.pixel_pipeline import PixelTextToImagePipeline
from fedloom.models.loss_in_parts import mean_in_parts
from fedloom.models.memory import in_own_memory
from fedloom.models.pictures import to_float, to_uint8
from fedloom.seeding import numpy_stream, torch_stream

FORMAT = 2  # raise when a change of code changes what a generator draws
KEPT = 50_000  # pictures whose latents are kept, 8 KiB each at 64 pixels
TO_LEARN_FROM = 3  # as many sampling steps: few blur what is drawn, and the blur would be learned


class Generator(Conditioned):
    """The embedded generator, pictures diffused as pixels or as latents, each of which is computed once.

    Without a representation, and as long as W_r is zero, outputs are those of the pipeline alone, bit for bit.
    """

    family = "pixel"

    def __init__(
        self,
        pipe: PixelTextToImagePipeline,
        width: int,
        condition: Condition = "add",
        device: torch.device = CPU,
        precision: Precision = "fp32",
    ) -> None:
        pipe.unet.to(memory_format=torch.channels_last)
        super().__init__(pipe, width, condition, device, precision)
        self.autoencoder = pipe.autoencoder
        self._codes = Codes(self._read, KEPT)
        pipe.to(device)

    def _read(self, picture: Tensor) -> Tensor:
        codes: Tensor = self.pipe.codes(picture.to(self.device))
        return codes

    @property
    def steps_to_learn_from(self) -> int:
        return TO_LEARN_FROM * int(self.pipe.config.sampling_steps)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return int(self.unet.config.sample_size * self.pipe.config.unshuffle) * (FACTOR if self.autoencoder else 1)

    def synthesize(
        self,
        prompts: Sequence[str],
        draws: torch.Generator,
        batch: int = 24,
        steps: int | None = None,
    ) -> Pictures:
        """One picture a prompt, uint8 (N, H, W, 3), without any representation (eq. 2).

        batch: pictures of a batch; on the CPU batches are drawn side by side. steps: of sampling; by default the
        pipeline's own. What an unchanged generator draws is kept in the cache: all methods of a comparison begin with
        the same.
        """
        config = self.unet.config
        noise = torch.randn((len(prompts), config.in_channels, config.sample_size, config.sample_size), generator=draws)

        def some(first: int, end: int) -> Pictures:
            return self._draw(prompts[first:end], noise[first:end], taken)

        taken = steps or self.pipe.config.sampling_steps
        if self.origin is None:
            return in_batches(len(prompts), batch, some, self.size, at_once=self.device == CPU)
        sampling = [self.pipe.config.guidance, taken]
        key = {
            "generator": self.origin,
            "prompts": list(prompts),
            "noise": hashlib.sha256(noise.numpy().tobytes()).hexdigest(),
            "sampling": [*sampling, batch, self.condition],
            "arithmetic": [kind_of(self.device), self.precision],
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "format": FORMAT,
        }

        return in_cache(len(prompts), batch, some, self.size, key, at_once=self.device == CPU)

    def _draw(self, prompts: Sequence[str], noise: Tensor, steps: int) -> Pictures:
        self.eval()
        self.pipe.set_progress_bar_config(disable=True)
        with self._arithmetic():
            pixels = self.pipe(list(prompts), noise=noise, output_type="pt", num_inference_steps=steps)
        return to_uint8(self.check_finite(pixels))

    def loss(
        self,
        images: Tensor,
        texts: Sequence[str],
        draws: torch.Generator,
        representation: Tensor | None = None,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The denoising loss L_T2I on pictures float (B, 3, H, W) in [-1, 1]: mean squared error, a scalar.

        On the straight path x_s = (1 - s) x + s e from picture to noise; the error is that of the velocity e - x,
        cut off near s = 0 where it would outweigh all else. Noise and levels are drawn on the CPU.

        Raises:
            BadInput: it cannot be trained as it was loaded, in fp16.
        """
        rows = self._noised(images, texts, draws, representation, leave_out)
        if self.device != CPU:  # an accelerator takes the whole batch at once
            return self._error(*rows).mean()
        trained = [p for p in self.unet.parameters() if p.requires_grad]
        return mean_in_parts(lambda *part: self._error(*part).mean(), rows, trained)

    def errors(self, images: Tensor, texts: Sequence[str], draws: torch.Generator) -> Tensor:
        """What `loss` is the mean of, of each picture: (B,)."""
        return self._error(*self._noised(images, texts, draws))

    def _noised(
        self,
        images: Tensor,
        texts: Sequence[str],
        draws: torch.Generator,
        representation: Tensor | None = None,
        leave_out: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Pictures with noise, what of them the UNet is to say, the level s, and what it hears, all (B, ...)."""
        if torch.is_grad_enabled():
            check_training(self.precision)
        tokens, pooled, mask = self.conditioned(texts, representation, leave_out)
        x0 = self._blocks(self.pipe.codes(images) if self.autoencoder is None else self._codes(images))
        noise = self._blocks(torch.randn(x0.shape, generator=draws))
        level, shift = torch.rand(len(x0), generator=draws), self.pipe.config.level_shift
        level = (shift * level / (1 + (shift - 1) * level)).to(self.device)
        s = level.view(-1, 1, 1, 1)
        target = noise - x0 if self._velocity else x0
        return ((1 - s) * x0 + s * noise, target, level, tokens, pooled, *(() if mask is None else (mask,)))

    def _error(
        self, noisy: Tensor, target: Tensor, level: Tensor, tokens: Tensor, pooled: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Of each row of `_noised`, (B,)."""
        with self._arithmetic():
            said = self.unet(noisy, level * 1000, tokens, class_labels=pooled, encoder_attention_mask=mask)
        error: Tensor = (said.sample.float() - target).square().mean(dim=(1, 2, 3))
        return error if self._velocity else error / level.clamp(min=self.pipe.config.level_floor).square()

    @property
    def _velocity(self) -> bool:
        return bool(self.pipe.config.prediction == "velocity")

    def _blocks(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device).contiguous(memory_format=torch.channels_last)

    def save(self, folder: Path) -> None:
        """Write the generator as a diffusers folder, with W_r beside it and the pipeline's code in it."""
        super().save(folder)
        shutil.copyfile(pipeline_file.__file__, folder / "pipeline.py")


def load_generator(
    folder: str | Path, width: int, condition: Condition = "add", device: str = "cpu", precision: Precision = "fp32"
) -> Generator:
    """A generator saved by `save`; W_r starts at zero where the folder holds none of this width.

    Raises:
        BadInput: this machine has no such device; W_r has another width.
    """
    pipe, place = in_own_memory(pipeline_file.load_pipeline(folder)), device_of(device)
    generator = Generator(pipe, width, condition, place, precision)
    read_bridge(generator.bridge, folder)
    return generator.eval()


def build_generator(
    settings: GeneratorSettings, clip: Clip, size: int, width: int, device: torch.device = CPU
) -> Generator:
    """A tiny random generator around a CLIP's text tower. Draws from torch's global stream."""
    from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

    autoencoder, side, latents = None, size, 3
    if settings.autoencoder is not None:
        autoencoder = load_autoencoder(settings.autoencoder, weights=device != torch.device("meta"))
        side, latents = size // FACTOR, autoencoder.config.latent_channels
    if side % (settings.unshuffle * 2 ** (len(settings.channels) - 1)) or (autoencoder and size % FACTOR):
        what = f"the autoencoder's {FACTOR}, " if autoencoder else ""
        raise BadInput(
            f"generator: {what}unshuffle {settings.unshuffle} and {len(settings.channels)} levels do not divide side "
            f"{size}"
        )
    text, levels = _text_tower(clip), len(settings.channels)
    assert settings.guidance is not None  # the embedded generator's stand in its configuration
    assert settings.sampling_steps is not None
    unet = UNet2DConditionModel(
        sample_size=side // settings.unshuffle,
        in_channels=latents * settings.unshuffle**2,
        out_channels=latents * settings.unshuffle**2,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        cross_attention_dim=clip.model.config.text_config.hidden_size,
        attention_head_dim=settings.heads,
        norm_num_groups=8,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=clip.model.config.projection_dim,
        resnet_time_scale_shift="scale_shift",
    )
    pipe = PixelTextToImagePipeline(
        unet,
        text,
        clip.tokenizer,
        FlowMatchEulerDiscreteScheduler(),
        autoencoder,
        settings.unshuffle,
        settings.guidance,
        settings.sampling_steps,
        settings.prediction,
        settings.level_shift,
        settings.level_floor,
    )
    return Generator(pipe, width, device=device)


def _text_tower(clip: Clip) -> Any:
    from transformers import CLIPTextModelWithProjection

    shape = clip.model.config.text_config
    shape.projection_dim = clip.model.config.projection_dim
    text = CLIPTextModelWithProjection(shape)
    text.text_model.load_state_dict(clip.model.text_model.state_dict())
    text.text_projection.load_state_dict(clip.model.text_projection.state_dict())
    return text


def pretrain_generator(
    generator: Generator,
    generic: PublicData,
    prompts: Sequence[str],
    settings: GeneratorSettings,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Denoising pretraining on the generic part, by the names the world gives its pictures (some wrong)."""
    rng, draws = numpy_stream(seed, "generator", "batches"), torch_stream(seed, "generator", "noise")
    pixels, mirrored = to_float(generic.images), torch_stream(seed, "generator", "mirror")
    named = [(prompts[name], caption) for name, caption in zip(generic.names, generic.captions)]
    generator.read([world_text(*words, draw) for draw in (0.0, 0.5, 1.0) for words in named])

    def objective(index: NDArray[np.int64]) -> Tensor:
        say, drop = rng.random(len(index)), rng.random(len(index)) < settings.drop_text
        texts = [
            "" if dropped else world_text(named[i][0], named[i][1], float(draw))
            for i, draw, dropped in zip(index, say, drop)
        ]
        shown = pixels[torch.from_numpy(index)]
        if settings.mirror:
            turned = torch.rand(len(index), generator=mirrored) < 0.5
            shown = torch.where(turned.view(-1, 1, 1, 1), shown.flip(-1), shown)
        return generator.loss(shown, texts, draws)

    drawn = Draws(rng, [draws, mirrored] if settings.mirror else [draws])
    return fit_from_scratch(generator, "generator", objective, len(generic), settings, drawn, seed, tick)
