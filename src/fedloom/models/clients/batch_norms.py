"""Batch normalisation that also trains on one value: a client may hold a single sample, a last batch may be of one."""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class _AlsoOfOne:
    """A batch in which a channel has one value has no variance: it is normalised by the running statistics.

    They stay as they are then, so that a site with one sample is scored by what it was trained with.
    """

    def forward(self, x: Tensor) -> Tensor:
        norm: nn.modules.batchnorm._BatchNorm = self  # type: ignore[assignment]
        if norm.training and x.numel() == x.shape[1] and norm.running_mean is not None:
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        return super().forward(x)  # type: ignore[misc, no-any-return]


class BatchNorm1d(_AlsoOfOne, nn.BatchNorm1d):
    """torch's, also of one row."""


class BatchNorm2d(_AlsoOfOne, nn.BatchNorm2d):
    """torch's, also of one pixel of one picture."""


def also_of_one(module: M) -> M:
    """`module`, whose batch norms from now on train on one value too. Parameters and their names stay."""
    for part in module.modules():
        for plain, ours in ((nn.BatchNorm1d, BatchNorm1d), (nn.BatchNorm2d, BatchNorm2d)):
            if type(part) is plain:
                part.__class__ = ours
    return module
