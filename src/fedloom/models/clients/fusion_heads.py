"""How two features become scores: concatenation, sum, FiLM, gate. As the works on unbalanced modalities compare them.

All take features (B, d) of both streams and give logits (B, C); a stream that is not there is a row of zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """W [x; y] + b."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.out(torch.cat([x, y], dim=1))  # type: ignore[no-any-return]


class Sum(nn.Module):
    """W_x x + W_y y + b."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.x, self.y = nn.Linear(width, classes), nn.Linear(width, classes, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.x(x) + self.y(y)  # type: ignore[no-any-return]


class Film(nn.Module):
    """x is scaled and shifted by what y says (FiLM, arXiv 1709.07871): W (gamma(y) * x + beta(y)) + b.

    gamma is 1 + a linear map, so that without y it is near x itself.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.film = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits (B, C)."""
        gamma, beta = self.film(y).chunk(2, dim=1)
        return self.out((1 + gamma) * x + beta)  # type: ignore[no-any-return]


class Gated(nn.Module):
    """A gate by x lets y through: W (sigmoid(W_x x) * (W_y y)) + b (Kiela et al., arXiv 1802.02892)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.gate, self.through = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.out(torch.sigmoid(self.gate(x)) * self.through(y))  # type: ignore[no-any-return]


FUSIONS: dict[str, type[nn.Module]] = {"concat": Concat, "sum": Sum, "film": Film, "gated": Gated}
