"""What GLIDE's networks are made of: residual blocks, attention that reads text, and transformer layers.

Norms and softmax work in float32 whatever the weights are; all else works in the type of the weights.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resample = Literal["none", "up", "down"]
Slices = Literal["auto", "max"] | int | None


class GroupNorm(nn.GroupNorm):
    """Group norm in float32; the result has the type of what came in."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps)
        return y.to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm in float32; the result has the type of what came in."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return y.to(x.dtype)


def split_heads(x: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """(B, L, heads * parts * c) to `parts` tensors (B, heads, L, c).

    A head's queries, keys and values lie side by side in the published weights.
    """
    rows, length, width = x.shape
    return tuple(x.view(rows, length, heads, parts, width // (heads * parts)).permute(3, 0, 2, 1, 4))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None, at_once: int = 0) -> Tensor:
    """Attention of every head, joined again: (B, H, L, c) to (B, L, H c).

    Args:
        seen: bool (B, S), which keys may be looked at; None is all.
        at_once: heads worked on together, 0 for all. Fewer take less memory and more time.
    """
    mask = None if seen is None else seen[:, None, None]
    step = at_once or q.shape[1]
    parts = [
        F.scaled_dot_product_attention(q[:, i : i + step], k[:, i : i + step], v[:, i : i + step], attn_mask=mask)
        for i in range(0, q.shape[1], step)
    ]
    return torch.cat(parts, dim=1).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Pixels look at all pixels and at the text's tokens, in one softmax."""

    def __init__(self, channels: int, text_width: int, head_channels: int, groups: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.slices: Slices = None
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.text_kv = nn.Linear(text_width, 2 * channels)
        self.out = nn.Linear(channels, channels)
        _zero(self.out)

    def forward(self, x: Tensor, text: Tensor, seen: Tensor | None) -> Tensor:
        """x (B, C, H, W), text (B, L, w), seen bool (B, L) or None, to (B, C, H, W)."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        q, k, v = split_heads(self.qkv(pixels), self.heads, 3)
        text_k, text_v = split_heads(self.text_kv(text), self.heads, 2)
        if seen is not None:
            seen = F.pad(seen, (0, pixels.shape[1]), value=True)  # (B, L + HW)
        k, v = torch.cat([text_k, k], dim=2), torch.cat([text_v, v], dim=2)
        h = self.out(attend(q, k, v, seen, self._at_once()))
        y: Tensor = x + h.transpose(1, 2).reshape(x.shape)
        return y

    def _at_once(self) -> int:
        if self.slices == "auto":
            return max(1, self.heads // 2)
        return 1 if self.slices == "max" else self.slices or 0


class ResBlock(nn.Module):
    """Two convolutions; the time scales and shifts what lies between them. May halve or double the side."""

    def __init__(
        self, channels: int, out: int, time_width: int, groups: int, dropout: float, resample: Resample = "none"
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm1 = GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * out)
        self.norm2 = GroupNorm(groups, out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        _zero(self.conv2)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, C, H, W), time (B, time_width), to (B, out, H', W')."""
        h = self._resized(F.silu(self.norm1(x)))
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)  # (B, out, 1, 1) each
        h = self.norm2(self.conv1(h)) * (1 + scale) + shift
        h = self.conv2(self.dropout(F.silu(h)))
        y: Tensor = self.shortcut(self._resized(x)) + h
        return y

    def _resized(self, x: Tensor) -> Tensor:
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2) if self.resample == "down" else x


class Stage(nn.Module):
    """A residual block, then attention where the level has it, then doubling of the side where the level ends."""

    def __init__(self, resnet: ResBlock, attention: Attention | None = None, upsample: ResBlock | None = None):
        super().__init__()
        self.resnet, self.attention, self.upsample = resnet, attention, upsample

    def forward(self, x: Tensor, time: Tensor, text: Tensor, seen: Tensor | None) -> Tensor:
        """x (B, C, H, W), time (B, time_width), text (B, L, w), seen bool (B, L) or None."""
        x = self.resnet(x, time)
        if self.attention is not None:
            x = self.attention(x, text, seen)
        return x if self.upsample is None else self.upsample(x, time)


class TextLayer(nn.Module):
    """A transformer layer, norms first; every token sees every token, padding too."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, w) to (B, L, w)."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), self.heads, 3)
        x = x + self.out(attend(q, k, v))
        y: Tensor = x + self.narrow(F.gelu(self.widen(self.norm2(x))))
        return y


def _zero(layer: nn.Linear | nn.Conv2d) -> None:
    """What ends a branch starts at zero: an untrained block changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
