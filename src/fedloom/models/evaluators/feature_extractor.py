"""Whatever looks at pictures in order to score: features, and class probabilities where it knows classes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.models.device import parts_of, place_of
from fedloom.models.pictures import to_float
from fedloom.models.side_by_side import side_by_side


class FeatureExtractor(nn.Module):
    """Base of the judge and of the feature networks. It looks in fp32, wherever it lives.

    name: what people know it by. batch: pictures looked at at a time, on an accelerator.
    """

    name = "viewer"
    batch = 256

    def features(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1], any side, to features (B, F)."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor | None:
        """Features (B, F) to logits (B, C); None where it knows no classes."""
        raise NotImplementedError

    @torch.no_grad()
    def look(self, images: NDArray[np.uint8], batch: int | None = None) -> tuple[Tensor, Tensor | None]:
        """uint8 (N, H, W, 3) to (features (N, F), class probabilities (N, C) or None), on the CPU.

        Only `batch` pictures are floating-point numbers at any time.
        """
        self.eval()
        place = place_of(self)
        parts = parts_of(len(images), place, batch or self.batch)
        features = torch.cat(side_by_side(lambda part: self.features(to_float(images[part], place)), parts))
        logits = self.logits(features)
        return features.cpu(), None if logits is None else logits.softmax(-1).cpu()
