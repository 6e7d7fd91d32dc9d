"""Pictures between storage (uint8, channels last) and models (float in [-1, 1], channels first)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def to_float(images: NDArray[np.uint8], place: torch.device | str = "cpu") -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], on the device `place`; bytes travel, not floats."""
    return as_float(torch.from_numpy(np.ascontiguousarray(images)).to(place).permute(0, 3, 1, 2))


def as_stored(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) as a tensor (N, 3, H, W) over the same memory, where it can be written to."""
    return torch.from_numpy(images if images.flags.writeable else images.copy()).permute(0, 3, 1, 2)


def as_float(pixels: Tensor) -> Tensor:
    """Pictures as stored, uint8 (B, 3, H, W), to float32 in [-1, 1]; floats stay as they are."""
    return pixels.float().div_(127.5).sub_(1.0) if pixels.dtype == torch.uint8 else pixels


def ready(inputs: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A model's inputs with pictures on its device and in [-1, 1]; what is stored goes there first, being smaller."""
    seen = dict(inputs)
    if "pixel_values" in seen:
        seen["pixel_values"] = as_float(seen["pixel_values"].to(device))
    return seen


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """float (B, 3, H, W) in [-1, 1], on any device, to uint8 (B, H, W, 3), rounded."""
    scaled = images.detach().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.permute(0, 2, 3, 1).contiguous().to(torch.uint8).cpu().numpy()


def soften(images: Tensor, draws: torch.Generator, noise: float = 0.1) -> Tensor:
    """Each picture (B, 3, H, W) blended with its 3 x 3 mean by a random share, plus noise.

    What a classifier of real pictures should not mind, as generated ones are softer. The pictures may be on any device,
    whatever that of `draws`.
    """
    share = torch.rand((len(images), 1, 1, 1), generator=draws).to(images.device)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images + share * (blurred - images) + noise * _grain(images, draws)


def _grain(images: Tensor, draws: torch.Generator) -> Tensor:
    """Normal noise of the shape of the pictures, drawn where they are: it is as large as they are."""
    if images.device.type == "cpu":
        return torch.randn(images.shape, generator=draws)
    seed = int(torch.randint(2**62, (), generator=draws))
    own = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=own, device=images.device)
