"""Granularity-aware fusion of a client's representation with the server's (FedAFD's GFF, arXiv 2603.04890).

The iterative attentional fusion of Dai et al. (WACV 2021), on vectors or on grids of positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fedloom.errors import BadInput, unknown
from fedloom.models.clients.batch_norms import BatchNorm1d

Norm = Literal["batch", "layer"]


class GranularityFusion(nn.Module):
    """Two levels of gates that mix a local representation x with the frozen server's g of the same sample.

        M_j(z) = sigmoid(T_j,loc(z) + T_j,glb(z))               in (0, 1), componentwise
        a = M_1(x + g);  h = a x + (1 - a) g                    first level
        b = M_2(h);      out = b x + (1 - b) g                  second level: x and g again, not h

    T: D -> D/r -> D with a norm after each map and a ReLU between; T_glb sees the mean over positions, T_loc each
    position. With one position both see the same. Four of them have 134 912 parameters at D = 256, r = 4.

    Each number of the result lies between those of x and g, and is exactly x where these are equal.

    Args:
        width: D.
        ratio: r.
        norm: `batch` as in the paper, of a single row by the running statistics; `layer` does not depend on the other
            samples.
        legacy_share_global: T_1,glb in both levels, as in the authors' code. T_2,glb then stays as it is, so that
            states fit both settings.

    Raises:
        BadInput: an unknown norm, or a bottleneck of less than one unit.
    """

    def __init__(
        self, width: int = 256, ratio: int = 4, norm: Norm = "batch", legacy_share_global: bool = False
    ) -> None:
        super().__init__()
        if norm not in ("batch", "layer"):
            raise unknown("fusion norm", norm, ("batch", "layer"))
        if not 1 <= ratio <= width:
            raise BadInput(f"a fusion of width {width} with ratio {ratio}; the ratio must be 1 to the width")
        self.width, self.norm, self.legacy_share_global = width, norm, legacy_share_global
        self.local_branches = nn.ModuleList(_branch(width, width // ratio, norm) for _ in range(2))
        self.global_branches = nn.ModuleList(_branch(width, width // ratio, norm) for _ in range(2))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """The mixture, with gradient to x and to the gates, never to g.

        Args:
            x: (B, D), or (B, D, L) with L positions.
            g: the same shape.

        Returns:
            The shape of x.

        Raises:
            ValueError: shapes disagree.
        """
        if not x.numel() and x.shape == g.shape:
            return x
        return torch.lerp(g.detach(), x, self.gates(x, g)[1])

    def gates(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """a and b, the share of x in the first level and in the result; arguments and errors as for `forward`."""
        if x.shape != g.shape or x.ndim not in (2, 3) or x.shape[1] != self.width:
            raise ValueError(
                f"local {tuple(x.shape)} and global {tuple(g.shape)} must both be (B, {self.width}) or "
                f"(B, {self.width}, L)"
            )
        g = g.detach()
        a = self._gate(x + g, 0)
        # lerp, unlike a x + (1 - a) g, never rounds past x or g and is exact where they are equal
        return a, self._gate(torch.lerp(g, x, a), 1)

    def _gate(self, z: Tensor, level: int) -> Tensor:
        """M_j: the shape of z, (B, D) or (B, D, L)."""
        rows = z[:, None] if z.ndim == 2 else z.transpose(1, 2)  # (B, L, D)
        local_branch = self.local_branches[level]
        global_branch = self.global_branches[0 if self.legacy_share_global else level]
        fine = local_branch(rows.flatten(0, 1)).view(rows.shape)
        coarse = global_branch(rows.mean(1))[:, None]  # (B, 1, D)
        gate: Tensor = (fine + coarse).sigmoid()
        return gate[:, 0] if z.ndim == 2 else gate.transpose(1, 2)


def _branch(width: int, inner: int, norm: Norm) -> nn.Sequential:
    """T: rows (N, D) -> (N, D). A pointwise convolution over positions is a linear map of rows."""
    make = BatchNorm1d if norm == "batch" else nn.LayerNorm
    return nn.Sequential(nn.Linear(width, inner), make(inner), nn.ReLU(), nn.Linear(inner, width), make(width))
