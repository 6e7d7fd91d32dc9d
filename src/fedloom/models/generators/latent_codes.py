"""What the frozen parts make of pictures and texts: a VAE's latents, and encodings as the pipeline makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Key = TypeVar("Key")
Value = TypeVar("Value")


def resized(images: Tensor, side: int) -> Tensor:
    """float (B, 3, H, W) to (B, 3, side, side): bicubic, antialiased; what is not square is stretched."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True)


class Codes:
    """What an encoder makes of pictures, kept for the last `most` distinct ones.

    encode: pictures (1, 3, H, W) to (1, ...), on any device.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], most: float) -> None:
        self.encode, self.most = encode, most
        self.known: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Codes float32 (B, ...) of pictures (B, 3, H, W), on the CPU."""
        codes = []
        for image in images:
            raw = image.detach().cpu().contiguous()
            name = hashlib.blake2b(raw.numpy().tobytes() + str(tuple(raw.shape)).encode()).digest()
            code = self.known.get(name)
            if code is None:  # alone: what stands beside it changes the last bits
                code = self.encode(raw[None].float())[0].cpu()
                keep(self.known, name, code, self.most)
            codes.append(code)
        return torch.stack(codes)


def encoded(vae: Any, pixels: Tensor) -> Tensor:
    """Pictures float (B, 3, H, W) in [-1, 1] to latents (B, c, h, w) at the scale that the UNet reads.

    The mean of the VAE's posterior, not a draw from it: its spread is small beside any noise level of training, and a
    picture then has one code, which can be kept.
    """
    z: Tensor = vae.encode(pixels).latent_dist.mode()
    mean, std = _statistics(vae, z)
    factor: float = vae.config.scaling_factor
    return z * factor if mean is None or std is None else (z - mean) * factor / std


def decoded(vae: Any, latents: Tensor) -> Tensor:
    """Latents (B, c, h, w) to pictures float (B, 3, H, W), in [-1, 1] or a little beyond."""
    mean, std = _statistics(vae, latents)
    factor: float = vae.config.scaling_factor
    z = latents / factor if mean is None or std is None else latents * std / factor + mean
    pixels: Tensor = vae.decode(z, return_dict=False)[0]
    return pixels


@torch.no_grad()
def drawn(pipe: Any, prompts: Sequence[str], context: AbstractContextManager[Any], **how: Any) -> Tensor:
    """Pictures float (B, 3, H, W) of a stock pipeline: latents computed in `context`, decoded in float32."""
    with context:
        latents = pipe(list(prompts), output_type="latent", **how).images
    return decoded(pipe.vae, latents.float())


def as_uint8(pipe: Any, pixels: Tensor) -> NDArray[np.uint8]:
    """Pictures (B, 3, H, W) as uint8 (B, H, W, 3), rounded as the pipeline does for PIL."""
    array = pipe.image_processor.postprocess(pixels, output_type="np")  # in [0, 1]
    return (array * 255).round().astype(np.uint8)  # type: ignore[no-any-return]


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Mean and deviation of latents (1, c, 1, 1) where the VAE's configuration has them (some of XL)."""
    given = [getattr(vae.config, name, None) for name in ("latents_mean", "latents_std")]
    if any(values is None for values in given):
        return None, None
    mean, std = (torch.tensor(values, dtype=like.dtype, device=like.device) for values in given)
    return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)


def encode_texts(pipe: Any, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """B texts to (tokens (B, L, w), pooled (B, v)) on the CPU, float32; v = 0 where the family has no pooled text."""
    said = pipe.encode_prompt(list(texts), device=device, num_images_per_prompt=1, do_classifier_free_guidance=False)
    tokens: Tensor = said[0].float().cpu()
    if len(said) == 2:
        return tokens, tokens.new_zeros(len(texts), 0)
    pooled: Tensor = said[2].float().cpu()
    if pipe.config.force_zeros_for_empty_prompt:
        # Guidance sets a prompt against zeros there: what the empty text is in training, too.
        empty = torch.tensor([text == "" for text in texts])
        tokens[empty], pooled[empty] = 0.0, 0.0
    return tokens, pooled


def keep(store: dict[Key, Value], key: Key, value: Value, most: float) -> None:
    """Put it into the store; what came first leaves when there are more than `most`."""
    store[key] = value
    while len(store) > most:
        del store[next(iter(store))]
