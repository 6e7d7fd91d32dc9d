"""Says of a representation whether it is the server's or a client's (FedAFD's BAA, arXiv 2603.04890)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from fedloom.errors import BadInput


class Discriminator(nn.Module):
    """D -> 128 -> 64 -> 1 with LeakyReLU 0.2 between; 41 217 parameters at D = 256.

    It ends in a logit, above 0 for global. The authors' ends in a sigmoid, before a loss that applies its own.

    Args:
        width: D.
        hidden: widths of the layers between.
        slope: of the LeakyReLU below 0.

    Raises:
        BadInput: a width below 1.
    """

    def __init__(self, width: int = 256, hidden: tuple[int, ...] = (128, 64), slope: float = 0.2) -> None:
        super().__init__()
        if min(width, *hidden, 1) < 1:
            raise BadInput(f"a discriminator of widths {(width, *hidden)}; each must be at least 1")
        layers: list[nn.Module] = []
        for given, made in zip((width, *hidden), hidden):
            layers += [nn.Linear(given, made), nn.LeakyReLU(slope)]
        self.net = nn.Sequential(*layers, nn.Linear((width, *hidden)[-1], 1))

    def forward(self, z: Tensor) -> Tensor:
        """Logits (...) of representations (..., D)."""
        return self.net(z).squeeze(-1)  # type: ignore[no-any-return]

    def held(self, z: Tensor) -> Tensor:
        """The same logits, whose gradient reaches `z` but no weight of this: for the encoder's step."""
        weights = {name: p.detach() for name, p in self.named_parameters()}
        logits: Any = functional_call(self, weights, (z,))
        return logits  # type: ignore[no-any-return]
