"""The Inception-v3 of FID: the network of 2015 as the published weights have it (Szegedy et al., 2015; Heusel et al.,
2017).

It differs from the usual Inception-v3: means at borders are over real pixels only, the last block takes a maximum where
the others take a mean, there are 1008 classes, and pictures are enlarged as TensorFlow 1 did. Weights have the names
of the file `pt_inception-2015-12-05-6726825d.pth`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedloom.errors import BadInput, first_line
from fedloom.models.evaluators.feature_extractor import FeatureExtractor

SIDE, WIDTH, CLASSES = 299, 2048, 1008


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, before: int, width: int, kernel: int | tuple[int, int], stride: int = 1, padding: bool = True
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (sides[0] // 2, sides[1] // 2) if padding else (0, 0)
        self.conv = nn.Conv2d(before, width, sides, stride, around, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Step(NamedTuple):
    """A convolution of a branch. Stride 2 has no border, stride 1 keeps the side."""

    name: str
    width: int
    kernel: int | tuple[int, int]
    stride: int = 1


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False),
    "max": partial(F.max_pool2d, kernel_size=3, stride=1, padding=1),
    "halve": partial(F.max_pool2d, kernel_size=3, stride=2),
}
Branch = tuple[str | Step | tuple[Step, Step], ...]  # a pool, a convolution, or two beside one another


class Mixed(nn.Module):
    """Branches on the same input, their channels one after the other."""

    def __init__(self, before: int, *branches: Branch) -> None:
        super().__init__()
        self.branches = branches
        for branch in branches:
            width = before
            for part in branch:
                steps = () if isinstance(part, str) else (part,) if isinstance(part, Step) else part
                for step in steps:
                    conv = Conv(width, step.width, step.kernel, step.stride, padding=step.stride == 1)
                    self.add_module(step.name, conv)
                width = sum(step.width for step in steps) or width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(branch, x) for branch in self.branches], 1)

    def _run(self, branch: Branch, x: Tensor) -> Tensor:
        for part in branch:
            if isinstance(part, str):
                x = POOLS[part](x)
            elif isinstance(part, Step):
                x = self.get_submodule(part.name)(x)
            else:
                x = torch.cat([self.get_submodule(step.name)(x) for step in part], 1)
        return x


def _mixed_5(before: int, pooled: int) -> Mixed:
    """35 px; to 224 + pooled channels."""
    return Mixed(
        before,
        (Step("branch1x1", 64, 1),),
        (Step("branch5x5_1", 48, 1), Step("branch5x5_2", 64, 5)),
        (Step("branch3x3dbl_1", 64, 1), Step("branch3x3dbl_2", 96, 3), Step("branch3x3dbl_3", 96, 3)),
        ("mean", Step("branch_pool", pooled, 1)),
    )


def _mixed_6a() -> Mixed:
    """35 px, 288 channels, to 17 px, 768."""
    return Mixed(
        288,
        (Step("branch3x3", 384, 3, 2),),
        (Step("branch3x3dbl_1", 64, 1), Step("branch3x3dbl_2", 96, 3), Step("branch3x3dbl_3", 96, 3, 2)),
        ("halve",),
    )


def _mixed_6(inner: int) -> Mixed:
    """17 px, 768 channels."""
    across, along = (1, 7), (7, 1)
    return Mixed(
        768,
        (Step("branch1x1", 192, 1),),
        (Step("branch7x7_1", inner, 1), Step("branch7x7_2", inner, across), Step("branch7x7_3", 192, along)),
        (
            *(Step("branch7x7dbl_1", inner, 1), Step("branch7x7dbl_2", inner, along)),
            *(Step("branch7x7dbl_3", inner, across), Step("branch7x7dbl_4", inner, along)),
            Step("branch7x7dbl_5", 192, across),
        ),
        ("mean", Step("branch_pool", 192, 1)),
    )


def _mixed_7a() -> Mixed:
    """17 px, 768 channels, to 8 px, 1280."""
    return Mixed(
        768,
        (Step("branch3x3_1", 192, 1), Step("branch3x3_2", 320, 3, 2)),
        (
            *(Step("branch7x7x3_1", 192, 1), Step("branch7x7x3_2", 192, (1, 7))),
            *(Step("branch7x7x3_3", 192, (7, 1)), Step("branch7x7x3_4", 192, 3, 2)),
        ),
        ("halve",),
    )


def _mixed_7(before: int, pool: str) -> Mixed:
    """8 px, to 2048 channels."""
    return Mixed(
        before,
        (Step("branch1x1", 320, 1),),
        (Step("branch3x3_1", 384, 1), (Step("branch3x3_2a", 384, (1, 3)), Step("branch3x3_2b", 384, (3, 1)))),
        (
            *(Step("branch3x3dbl_1", 448, 1), Step("branch3x3dbl_2", 384, 3)),
            (Step("branch3x3dbl_3a", 384, (1, 3)), Step("branch3x3dbl_3b", 384, (3, 1))),
        ),
        (pool, Step("branch_pool", 192, 1)),
    )


class Inception(FeatureExtractor):
    """Pooled features (B, 2048), and the logits (B, 1008) of the Inception score, which leave the bias out."""

    name, batch = "Inception-v3", 64

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2, padding=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, padding=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, padding=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _mixed_5(192, 32), _mixed_5(256, 64), _mixed_5(288, 64)
        self.Mixed_6a = _mixed_6a()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d = _mixed_6(128), _mixed_6(160), _mixed_6(160)
        self.Mixed_6e = _mixed_6(192)
        self.Mixed_7a = _mixed_7a()
        self.Mixed_7b, self.Mixed_7c = _mixed_7(1280, "mean"), _mixed_7(2048, "max")
        self.fc = nn.Linear(WIDTH, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1], any side, to (B, 2048)."""
        x = (as_tensorflow((images + 1) * 127.5, SIDE) - 128) / 128  # the graph's own range
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(POOLS["halve"](x)))  # (B, 192, 71, 71)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(POOLS["halve"](x))))  # (B, 288, 35, 35)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return torch.mean(x, dim=(2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Without the bias, as the published Inception scores are computed."""
        return features @ self.fc.weight.T


def as_tensorflow(images: Tensor, side: int) -> Tensor:
    """Pictures (B, C, H, W) to (B, C, side, side), bilinear, as TensorFlow 1 resizes.

    Output pixel i lies at i * H / side, not at the middle of its area, and nothing is averaged in reducing.
    """
    for axis in (3, 2):
        size = images.shape[axis]
        at = torch.arange(side, device=images.device) * (size / side)
        low = at.long()
        high = (low + 1).clamp(max=size - 1)
        share = (at - low).view(-1, *(1,) * (3 - axis))
        first, second = images.index_select(axis, low), images.index_select(axis, high)
        images = first + (second - first) * share
    return images


def load_inception(file: Path) -> Inception:
    """The network with the weights in `file` (.pth, .pt or .safetensors), on the CPU.

    Raises:
        BadInput: the file cannot be read, or a weight is missing, unknown or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise BadInput(f"features {file}: cannot be read: {first_line(error)}") from error
    network = Inception()
    network.load_state_dict(_fitting(network, found, file), strict=False)
    return network.eval().requires_grad_(False)


def _fitting(network: Inception, found: object, file: Path) -> dict[str, Tensor]:
    """The weights of `found`, all of which the network has and none of which it lacks; counts of batches aside."""
    wanted = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    if not isinstance(found, Mapping):
        raise BadInput(f"features {file}: holds a {type(found).__name__}, expected Inception-v3's weights by name")
    given = {k: v for k, v in found.items() if not str(k).endswith("num_batches_tracked")}
    for key in [*wanted, *given]:
        shapes = [tuple(x[key].shape) if key in x else None for x in (wanted, given)]
        if shapes[0] != shapes[1]:
            raise BadInput(f"features {file}: no FID Inception-v3: {key} is {shapes[1]}, expected {shapes[0]}")
    return given
