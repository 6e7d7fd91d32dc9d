"""The server's text-to-image model: synthesis, conditioning on fused representations, and its denoising loss."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedloom.data.scene import Generic
from fedloom.errors import BadInput
from fedloom.models import pipeline as pipeline_file
from fedloom.models.clip import Clip, world_text
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import to_float, to_uint8
from fedloom.models.pipeline import PixelTextToImagePipeline
from fedloom.models.settings import GeneratorSettings
from fedloom.randomness import global_torch_stream, numpy_stream, torch_stream
from fedloom.runs.cache import cached

Condition = Literal["add", "token", "pooled"]
FORMAT = 1  # raise when a change of code changes what a generator draws


class Generator(nn.Module):
    """The pipeline's parts with what federated tuning adds: the map W_r from representations (FedMMKT, eq. 11).

    Trainable: the UNet (the paper's decoder) and W_r. The text encoder is frozen. Without a representation, and as long
    as W_r is zero, outputs are those of the pipeline alone, bit for bit.
    """

    def __init__(self, pipe: PixelTextToImagePipeline, width: int, condition: Condition = "add") -> None:
        super().__init__()
        self.pipe = pipe
        self.unet = pipe.unet.to(memory_format=torch.channels_last)
        self.condition: Condition = condition
        self.text_encoder = pipe.text_encoder.requires_grad_(False).eval()
        self.bridge = nn.Linear(width, pipe.unet.config.cross_attention_dim, bias=False)
        nn.init.zeros_(self.bridge.weight)
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}
        self.origin: str | None = (
            None  # what it was loaded from, by content, as long as nothing has changed it
        )

    def touched(self) -> None:
        """Say that it is about to be changed: what it draws is no longer what others drew who began like it."""
        self.origin = None

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return int(self.unet.config.sample_size * self.pipe.config.unshuffle)

    def trainable(self) -> list[nn.Parameter]:
        """The UNet's and W_r's parameters."""
        return [*self.unet.parameters(), *self.bridge.parameters()]

    def synthesize(
        self, prompts: Sequence[str], draws: torch.Generator, batch: int = 64
    ) -> NDArray[np.uint8]:
        """One picture a prompt, uint8 (N, H, W, 3), without any representation (eq. 2).

        What an unchanged generator draws is kept in the cache: all methods of a comparison begin with the same.
        """
        config = self.unet.config
        noise = torch.randn(
            (len(prompts), config.in_channels, config.sample_size, config.sample_size), generator=draws
        )
        if self.origin is None:
            return self._draw(prompts, noise, batch)
        sampling = [self.pipe.config.guidance, self.pipe.config.sampling_steps]
        key = {
            "generator": self.origin,
            "prompts": list(prompts),
            "noise": hashlib.sha256(noise.numpy().tobytes()).hexdigest(),
            "sampling": [*sampling, batch, self.condition],
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "format": FORMAT,
        }

        def build(folder: Path) -> None:
            np.save(folder / "pictures.npy", self._draw(prompts, noise, batch), allow_pickle=False)

        pictures: NDArray[np.uint8] = np.load(
            cached("pictures", key, build) / "pictures.npy", allow_pickle=False
        )
        return pictures

    def _draw(self, prompts: Sequence[str], noise: Tensor, batch: int) -> NDArray[np.uint8]:
        self.eval()
        self.pipe.set_progress_bar_config(disable=True)
        parts = []
        for i in range(0, len(prompts), batch):
            part = self.pipe(list(prompts[i : i + batch]), noise=noise[i : i + batch], output_type="pt")
            parts.append(to_uint8(part))
        return np.concatenate(parts)

    def embed(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts to (tokens (B, L, w), pooled (B, w)); each distinct text is encoded once, the encoder being frozen."""
        for text in dict.fromkeys(texts):
            if text not in self._texts:  # alone: what stands beside it in a batch changes the last bits
                tokens, pooled = self.pipe.embed([text])
                self._texts[text] = (tokens[0], pooled[0])
        return torch.stack([self._texts[t][0] for t in texts]), torch.stack(
            [self._texts[t][1] for t in texts]
        )

    def read(self, texts: Sequence[str], batch: int = 64) -> None:
        """Encode texts ahead, many at a time. For pretraining: in its last bits a text read so differs from one read
        alone, as `embed` reads it.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for i in range(0, len(new), batch):
            tokens, pooled = self.pipe.embed(new[i : i + batch])
            self._texts.update(zip(new[i : i + batch], zip(tokens, pooled)))

    def conditioned(
        self, texts: Sequence[str], representation: Tensor | None, leave_out: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Eq. 11 and 12: text joined with W_r R, except where `leave_out` says text only.

        Args:
            texts: B texts.
            representation: R (B, D), layer-normalised here, or None.
            leave_out: bool (B,), the draws b of eq. 12, or None for none left out.

        Returns:
            tokens (B, L or L+1, w), pooled (B, w), attention mask (B, L+1) or None.
        """
        tokens, pooled = self.embed(texts)
        if representation is None:
            return tokens, pooled, None
        addition = self.bridge(F.layer_norm(representation, representation.shape[-1:], eps=1e-8))  # (B, w)
        if leave_out is not None:
            addition = addition * (~leave_out)[:, None]
        if self.condition == "add":
            return tokens + addition[:, None], pooled + addition, None
        if self.condition == "pooled":
            return tokens, pooled + addition, None
        # A zero token would still take attention: it is masked where R is left out, and gone as long as W_r is zero,
        # but for training: through a mask no gradient would ever reach W_r.
        speaks = torch.is_grad_enabled() or bool(self.bridge.weight.any())
        heard = torch.full((len(texts),), speaks)
        heard = heard if leave_out is None else heard & ~leave_out
        if not heard.any():
            return tokens, pooled, None
        mask = torch.cat([torch.ones(tokens.shape[:2], dtype=torch.bool), heard[:, None]], dim=1)
        return torch.cat([tokens, addition[:, None]], dim=1), pooled, mask

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
        cut off near s = 0 where it would outweigh all else.
        """
        tokens, pooled, mask = self.conditioned(texts, representation, leave_out)
        x0 = F.pixel_unshuffle(images, self.pipe.config.unshuffle).contiguous(
            memory_format=torch.channels_last
        )
        noise = torch.randn(x0.shape, generator=draws).contiguous(memory_format=torch.channels_last)
        level, shift = torch.rand(len(x0), generator=draws), self.pipe.config.level_shift
        level = shift * level / (1 + (shift - 1) * level)
        s = level.view(-1, 1, 1, 1)
        noisy = (1 - s) * x0 + s * noise
        out = self.unet(noisy, level * 1000, tokens, class_labels=pooled, encoder_attention_mask=mask).sample
        if self.pipe.config.prediction == "velocity":
            return F.mse_loss(out, noise - x0)
        error = (out - x0).square().mean(dim=(1, 2, 3))  # (B,)
        weighed: Tensor = error / level.clamp(min=self.pipe.config.level_floor).square()
        return weighed.mean()

    def save(self, folder: Path) -> None:
        """Write the generator as a diffusers folder, with W_r beside it and the pipeline's code in it."""
        self.pipe.save_pretrained(folder)
        index = folder / "model_index.json"
        facts = json.loads(index.read_text())
        facts.pop("_name_or_path", None)  # where it was loaded from is nobody else's business
        index.write_text(json.dumps(facts, indent=2))
        save_file({"weight": self.bridge.weight.detach().contiguous()}, folder / "bridge.safetensors")
        shutil.copyfile(pipeline_file.__file__, folder / "pipeline.py")


def load_generator(folder: str | Path, width: int, condition: Condition = "add") -> Generator:
    """A generator saved by `save`; W_r starts at zero where the folder holds none of this width."""
    generator = Generator(pipeline_file.load_pipeline(folder), width, condition)
    bridge = Path(folder) / "bridge.safetensors"
    if bridge.exists():
        weight = load_file(bridge)["weight"]
        if weight.shape == generator.bridge.weight.shape:
            generator.bridge.load_state_dict({"weight": weight})
        elif weight.any():
            raise BadInput(
                f"{bridge}: W_r has shape {tuple(weight.shape)}, this run wants {tuple(generator.bridge.weight.shape)}"
            )
    return generator.eval()


def build_generator(settings: GeneratorSettings, clip: Clip, size: int, width: int) -> Generator:
    """A tiny random generator around a CLIP's text tower. Draws from torch's global stream."""
    from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

    if size % (settings.unshuffle * 2 ** (len(settings.channels) - 1)):
        raise BadInput(
            f"generator: unshuffle {settings.unshuffle} and {len(settings.channels)} levels do not divide side {size}"
        )
    shape = clip.model.config.text_config
    shape.projection_dim = clip.model.config.projection_dim
    text = CLIPTextModelWithProjection(shape)
    text.text_model.load_state_dict(clip.model.text_model.state_dict())
    text.text_projection.load_state_dict(clip.model.text_projection.state_dict())
    levels = len(settings.channels)
    unet = UNet2DConditionModel(
        sample_size=size // settings.unshuffle,
        in_channels=3 * settings.unshuffle**2,
        out_channels=3 * settings.unshuffle**2,
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
        settings.unshuffle,
        settings.guidance,
        settings.sampling_steps,
        settings.prediction,
        settings.level_shift,
        settings.level_floor,
    )
    return Generator(pipe, width)


def pretrain_generator(
    generator: Generator,
    generic: Generic,
    prompts: Sequence[str],
    settings: GeneratorSettings,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Denoising pretraining on the generic part, by the names the world gives its pictures (some wrong)."""
    rng, draws = numpy_stream(seed, "generator", "batches"), torch_stream(seed, "generator", "noise")
    pixels = to_float(generic.images)
    named = [(prompts[name], caption) for name, caption in zip(generic.names, generic.captions)]
    generator.read([world_text(*words, draw) for draw in (0.0, 0.5, 1.0) for words in named])

    def objective(index: NDArray[np.int64]) -> Tensor:
        say, drop = rng.random(len(index)), rng.random(len(index)) < settings.drop_text
        texts = [
            "" if dropped else world_text(named[i][0], named[i][1], float(draw))
            for i, draw, dropped in zip(index, say, drop)
        ]
        return generator.loss(pixels[torch.from_numpy(index)], texts, draws)

    with global_torch_stream(seed, "generator", "training"):
        generator.train()
        generator.text_encoder.eval()
        batches = index_batches(len(generic.labels), settings.batch, settings.steps, rng)
        optimizer = adamw(generator.unet.parameters(), settings.rate)
        loss = fit(
            optimizer,
            batches,
            objective,
            schedule=cosine(settings.steps),
            name="generator pretraining",
            tick=tick,
        )
    generator.eval()
    return loss
