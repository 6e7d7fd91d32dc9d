"""Views of pictures and texts, drawn from a given generator: the same seed gives the same views everywhere.

Pictures are float (B, 3, H, W) in [-1, 1], as the image models take them. SimCLR's view (FedMMKT, eq. 33) is a random
resized crop, a flip, colour jitter and now and then grey; torch alone, and vectorised over the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import BadInput

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in every SimCLR code


def shift_flip(images: Tensor, generator: torch.Generator, shift: int = 2) -> Tensor:
    """The light view for training: each picture moved by up to `shift` pixels, mirrored with probability 0.5.

    Args:
        images: (B, 3, H, W), any range.
        generator: on the CPU.
        shift: pixels; what comes in at the edges repeats the edge.

    Returns:
        The shape of `images`, new memory.
    """
    b, _, h, w = images.shape
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    rows = torch.randint(2 * shift + 1, (b, 1), generator=generator) + torch.arange(h)  # (B, H)
    columns = torch.randint(2 * shift + 1, (b, 1), generator=generator) + torch.arange(w)  # (B, W)
    mirrored = torch.rand(b, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    place = [i.to(images.device) for i in (torch.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :])]
    moved = padded.permute(0, 2, 3, 1)[place[0], place[1], place[2]]  # (B, H, W, 3)
    return moved.permute(0, 3, 1, 2).contiguous()


def simclr_views(images: Tensor, generator: torch.Generator, strength: float = 0.5) -> Tensor:
    """SimCLR's view of each picture: crop to 20-100 % of the area, flip, colour jitter, grey (FedMMKT, eq. 33).

    Args:
        images: (B, 3, H, W) in [-1, 1].
        generator: on the CPU. A picture's view depends on its place in the batch, so send whole batches.
        strength: of the colour jitter (0.8, 0.8, 0.8, 0.2), applied with probability 0.8.

    Returns:
        (B, 3, H, W) in [-1, 1].

    Raises:
        BadInput: a strength outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise BadInput(f"the strength of colour jitter is {strength}; it lies in [0, 1]")
    x = random_crop_flip(images, generator).add(1.0).mul(0.5).clamp(0.0, 1.0)  # [0, 1] for colours
    jittered = colour_jitter(x, generator, 0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    x = torch.where(_chance(len(x), 0.8, generator, x), jittered, x)
    x = torch.where(_chance(len(x), 0.2, generator, x), _grey(x), x)
    return x.mul(2.0).sub(1.0)


def random_crop_flip(images: Tensor, generator: torch.Generator, scale: tuple[float, float] = (0.2, 1.0)) -> Tensor:
    """A random part of each picture (area `scale`, aspect 3:4 to 4:3) blown up to full size, mirrored half the time.

    Args:
        images: (B, 3, H, W), any range.
        generator: on the CPU.
        scale: least and greatest share of the area.

    Returns:
        The shape of `images`, bilinear.
    """
    b = len(images)
    if not b:
        return images.clone()
    area = _uniform(b, *scale, generator)
    aspect = _uniform(b, math.log(3 / 4), math.log(4 / 3), generator).exp()
    w = (area * aspect).sqrt().clamp(max=1.0)  # as a share of the picture's sides
    h = (area / aspect).sqrt().clamp(max=1.0)
    x = _uniform(b, -1.0, 1.0, generator) * (1.0 - w)  # centre, where the picture spans -1 to 1
    y = _uniform(b, -1.0, 1.0, generator) * (1.0 - h)
    mirror = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0)
    zero = torch.zeros(b)
    theta = torch.stack([torch.stack([w * mirror, zero, x], 1), torch.stack([zero, h, y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colour_jitter(
    images: Tensor,
    generator: torch.Generator,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> Tensor:
    """Brightness, contrast, saturation and hue changed at random, in an order drawn once a batch.

    Args:
        images: (B, 3, H, W) in [0, 1].
        generator: on the CPU.
        brightness: factor in 1 -+ this; contrast and saturation likewise.
        contrast: as brightness, about the picture's mean grey.
        saturation: as brightness, about each pixel's grey.
        hue: turn in -+ this, where 1 is the whole circle.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    b, x = len(images), images
    factors = [
        _uniform(b, 1.0 - s, 1.0 + s, generator).to(x)[:, None, None, None] for s in (brightness, contrast, saturation)
    ]
    turn = _uniform(b, -hue, hue, generator).to(x)[:, None, None]
    for step in torch.randperm(4, generator=generator).tolist():
        if step == 0:
            x = (x * factors[0]).clamp(0.0, 1.0)
        elif step == 1:
            mean = _grey(x)[:, :1].mean((2, 3), keepdim=True)
            x = torch.lerp(mean.expand_as(x), x, factors[1]).clamp(0.0, 1.0)
        elif step == 2:
            x = torch.lerp(_grey(x), x, factors[2]).clamp(0.0, 1.0)
        else:
            x = turn_hue(x, turn)
    return x


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Hue turned by `turn` (broadcast to (B, H, W); 1 is the whole circle), in HSV: (B, 3, H, W) in [0, 1]."""
    value, _ = images.max(1)  # (B, H, W)
    chroma = value - images.min(1).values
    r, g, b = images.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sector = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    hue = sector / 6.0 + turn
    # Channel n of a colour with hue h: V - C max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6, n = 5, 3, 1.
    k = torch.stack([(n + 6.0 * hue).remainder(6.0) for n in (5.0, 3.0, 1.0)], 1)  # (B, 3, H, W)
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)


def drop_tokens(ids: Tensor, mask: Tensor, p: float, generator: torch.Generator, replacement: int) -> Tensor:
    """Token dropout, the text's view (FedMMKT, eq. 33): inner tokens replaced with probability p.

    The first and the last token of a row (class and end marks) stay, and so does padding, on whichever side.

    Args:
        ids: (B, L) integer.
        mask: (B, L), non-zero where there is a token.
        p: in [0, 1].
        generator: on the CPU.
        replacement: the id put in (unknown, or mask).

    Returns:
        (B, L), new memory.

    Raises:
        ValueError: shapes disagree.
        BadInput: p outside [0, 1].
    """
    if ids.shape != mask.shape:
        raise ValueError(f"ids {tuple(ids.shape)} and mask {tuple(mask.shape)} must both be (B, L)")
    if not 0.0 <= p <= 1.0:
        raise BadInput(f"the token dropout is {p}; it lies in [0, 1]")
    drawn = (torch.rand(ids.shape, generator=generator) < p).to(ids.device)
    order = mask.bool().long().cumsum(1)  # 1 at the first token, the number of tokens from the last one on
    inner = mask.bool() & (order > 1) & (order < order[:, -1:])
    return ids.masked_fill(inner & drawn, replacement)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n,) on the CPU, where all draws are made so that devices agree."""
    return low + (high - low) * torch.rand(n, generator=generator)


def _chance(n: int, p: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """bool (n, 1, 1, 1), true with probability p."""
    return (torch.rand(n, 1, 1, 1, generator=generator) < p).to(like.device)


def _grey(images: Tensor) -> Tensor:
    """(B, 3, H, W), the three channels equal."""
    weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
    return torch.einsum("bchw,c->bhw", images, weights)[:, None].expand_as(images)
