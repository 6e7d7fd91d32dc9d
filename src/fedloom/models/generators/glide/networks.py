"""GLIDE's two networks as diffusers models: the text encoder, and the U-Net of the base model and of the upsampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.models.generators.glide.layers import (
    Attention,
    GroupNorm,
    LayerNorm,
    Resample,
    ResBlock,
    Slices,
    Stage,
    TextLayer,
)

# The sizes of the release (model card and public configuration). The base model's are the defaults below.
UPSAMPLER: dict[str, Any] = {"sample_size": 256, "multipliers": (1, 1, 2, 2, 4, 4), "layers": 2, "low_resolution": True}


class GlideTextEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Token ids to states that the U-Net attends to. Base model and upsampler each have their own.

    Args:
        vocabulary: number of tokens.  length: L, tokens of a text, padding included.  width: w.
        layers, heads: of the transformer.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, vocabulary: int = 50257, length: int = 128, width: int = 512, layers: int = 16, heads: int = 8
    ) -> None:
        super().__init__()
        if width % heads:
            raise BadInput(f"GLIDE's text encoder: {heads} heads do not divide the width {width}")
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.padding = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(TextLayer(width, heads) for _ in range(layers))
        self.norm = LayerNorm(width)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode B texts.

        Args:
            ids: int64 (B, L).
            mask: bool (B, L), False at padding. Padding is not hidden: each place has a learned vector for it.

        Returns:
            Token states (B, L, w), and the last of them (B, w), which speaks for the whole text.
        """
        if ids.shape[1] != len(self.position):
            raise BadInput(f"GLIDE reads texts of {len(self.position)} tokens, these have {ids.shape[1]}")
        x = torch.where(mask[..., None], self.token(ids) + self.position, self.padding)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x, x[:, -1]


class GlideUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Noisy picture, time and text to the noise in it and how sure that is.

    Called as diffusers' conditional U-Net is, so that it can stand in for one; without arguments it is the base model.

    Args:
        sample_size: side of the pictures in pixels.
        in_channels, out_channels: of the picture; of noise and variance together.
        channels: width at the first level.  multipliers: of that width, one a level, each of half the side before.
        layers: stages a level on the way down; one more on the way up.
        attention_sides: pixels of the levels that attend.  head_channels: width of an attention head.
        cross_attention_dim: w, width of the text states.
        dropout: within residual blocks.  norm_groups: of every group norm.
        low_resolution: whether it is an upsampler, and sees a smaller picture beside the noisy one.
    """

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        out_channels: int = 6,
        channels: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        layers: int = 3,
        attention_sides: Sequence[int] = (32, 16, 8),
        head_channels: int = 64,
        cross_attention_dim: int = 512,
        dropout: float = 0.1,
        norm_groups: int = 32,
        low_resolution: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        widths = [channels * m for m in multipliers]
        sides = [sample_size // 2**level for level in range(len(widths))]
        _check(sample_size, channels, norm_groups, head_channels, widths, sides, attention_sides)
        wide, levels = 4 * channels, list(zip(widths, sides))

        def block(before: int, after: int, resample: Resample = "none") -> ResBlock:
            return ResBlock(before, after, wide, norm_groups, dropout, resample)

        def attention(width: int, side: int) -> Attention | None:
            if side not in attention_sides:
                return None
            return Attention(width, cross_attention_dim, head_channels, norm_groups)

        self.time = nn.Sequential(nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.text = nn.Linear(cross_attention_dim, wide)
        self.conv_in = nn.Conv2d(in_channels * (2 if low_resolution else 1), widths[0], 3, padding=1)
        down, skips = _way_down(block, attention, levels, layers)
        self.down, now = nn.ModuleList(down), widths[-1]
        seeing = Attention(now, cross_attention_dim, head_channels, norm_groups)
        self.middle = nn.ModuleList([Stage(block(now, now), seeing), Stage(block(now, now))])
        self.up, now = nn.ModuleList(_way_up(block, attention, levels, layers, skips)), widths[0]
        self.norm_out = GroupNorm(norm_groups, now)
        self.conv_out = nn.Conv2d(now, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def set_attention_slice(self, slice_size: Slices) -> None:
        """How many heads attend at once: a number, "auto" half of them, "max" one, None all."""
        for part in self.modules():
            if isinstance(part, Attention):
                part.slices = slice_size

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        class_labels: Tensor,
        encoder_attention_mask: Tensor | None = None,
        low_res: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """One prediction; computed in the type of the weights, returned in that of the sample.

        Args:
            sample: noisy pictures x_t (B, 3, H, W).
            timestep: t, of all or (B,), counted in the steps of training, from 0.
            encoder_hidden_states: text states (B, L, w), any L.
            class_labels: the vector that speaks for the text (B, w), added to the time.
            encoder_attention_mask: bool (B, L), which states may be looked at; None is all.
            low_res: smaller pictures (B, 3, h, w), for an upsampler only.

        Returns:
            `.sample` (B, 6, H, W): the noise, and per pixel where its variance lies (-1 smallest, 1 largest).
        """
        self._check_pictures(sample, low_res)
        x = sample
        if low_res is not None:
            enlarged = F.interpolate(low_res, x.shape[-2:], mode="bilinear", align_corners=False)
            x = torch.cat([x, enlarged.to(x.dtype)], dim=1)  # (B, 6, H, W)
        kind = self.conv_in.weight.dtype
        times = torch.as_tensor(timestep, device=x.device).expand(len(x))
        text = encoder_hidden_states.to(kind)
        waves = get_timestep_embedding(times, self.config.channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        time = self.time(waves.to(kind)) + self.text(class_labels.to(kind))
        h = self.conv_in(x.to(kind))
        skips = [h]
        for stage in self._run(self.down):
            h = stage(h, time, text, encoder_attention_mask)
            skips.append(h)
        for stage in self._run(self.middle):
            h = stage(h, time, text, encoder_attention_mask)
        for stage in self._run(self.up):
            h = stage(torch.cat([h, skips.pop()], dim=1), time, text, encoder_attention_mask)
        out = self.conv_out(F.silu(self.norm_out(h))).to(sample.dtype)
        return UNet2DConditionOutput(sample=out) if return_dict else (out,)

    def _check_pictures(self, sample: Tensor, low_res: Tensor | None) -> None:
        if (low_res is not None) != self.config.low_resolution:
            needs = "needs a smaller picture" if low_res is None else "takes no smaller picture"
            raise BadInput(f"GLIDE at {self.config.sample_size} px {needs} (low_res)")
        (height, width), multiple = sample.shape[-2:], 2 ** (len(self.config.multipliers) - 1)
        if width % multiple or width != height:
            raise BadInput(f"GLIDE: pictures of {(height, width)} px, wanted: square, a multiple of {multiple}")

    def _run(self, stages: nn.ModuleList) -> Iterator[Any]:
        """The stages as functions, which forget their insides where gradient checkpointing is on."""
        saving = self.gradient_checkpointing and torch.is_grad_enabled()
        for stage in stages:
            yield (lambda *x, s=stage: self._gradient_checkpointing_func(s, *x)) if saving else stage


def _way_down(
    block: Callable[..., ResBlock],
    attention: Callable[[int, int], Attention | None],
    levels: Sequence[tuple[int, int]],
    layers: int,
) -> tuple[list[Stage], list[int]]:
    """The stages that halve the side from level to level (width, side), and the widths that they hand to the way up."""
    down: list[Stage] = []
    now = levels[0][0]
    skips = [now]
    for level, (width, side) in enumerate(levels):
        for _ in range(layers):
            down.append(Stage(block(now, width), attention(width, side)))
            now = width
            skips.append(now)
        if level != len(levels) - 1:
            down.append(Stage(block(now, now, "down")))
            skips.append(now)
    return down, skips


def _way_up(
    block: Callable[..., ResBlock],
    attention: Callable[[int, int], Attention | None],
    levels: Sequence[tuple[int, int]],
    layers: int,
    skips: list[int],
) -> list[Stage]:
    """The stages that double it again, each of which reads what one of the way down handed over."""
    up: list[Stage] = []
    now = levels[-1][0]
    for level, (width, side) in reversed(list(enumerate(levels))):
        for i in range(layers + 1):
            ends = block(width, width, "up") if level and i == layers else None
            up.append(Stage(block(now + skips.pop(), width), attention(width, side), ends))
            now = width
    return up


def _check(
    side: int,
    channels: int,
    groups: int,
    head: int,
    widths: Sequence[int],
    sides: Sequence[int],
    attended: Sequence[int],
) -> None:
    """BadInput where the sizes of a U-Net do not fit one another."""
    if side % 2 ** (len(widths) - 1):
        raise BadInput(f"GLIDE: {len(widths)} levels cannot halve {side} px {len(widths) - 1} times")
    if channels % 2 or channels % groups:
        raise BadInput(f"GLIDE: {groups} norm groups do not divide {channels} channels, or these are odd")
    attending = [w for w, s in zip(widths, sides) if s in attended]
    for width in [*attending, widths[-1]]:
        if width % head:
            raise BadInput(f"GLIDE: attention heads of {head} channels do not divide {width}")
