"""The judge of the GAN-test: a small convolutional classifier trained on real pictures only, and never a client."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.data.scene import ImageSet
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import soften, to_float
from fedloom.models.settings import JudgeSettings
from fedloom.randomness import global_torch_stream, numpy_stream, torch_stream


class Judge(nn.Module):
    """Convolutions, batch norm, mean pooling. `features` (B, channels[-1]) serve FID; `forward` gives logits (B, C)."""

    def __init__(self, settings: JudgeSettings, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 3
        for width in settings.channels:
            blocks += [
                nn.Conv2d(before, width, 3, stride=1, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            blocks += [nn.MaxPool2d(2)]
            before = width
        self.trunk = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)

    def features(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1] to pooled features (B, F)."""
        return self.trunk(images).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    @torch.no_grad()
    def look(self, images: NDArray[np.uint8], batch: int = 256) -> tuple[Tensor, Tensor]:
        """uint8 (N, H, W, 3) to (features (N, F), class probabilities (N, C))."""
        self.eval()
        seen = [self.features(to_float(images[i : i + batch])) for i in range(0, len(images), batch)]
        features = torch.cat(seen)
        return features, self.head(features).softmax(-1)


def train_judge(
    settings: JudgeSettings,
    real: ImageSet,
    classes: int,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> Judge:
    """Train a judge on real pictures, shifted, flipped and softened so that a generator's blur is no cue."""
    from fedloom.functional.augment import shift_flip

    rng, draws = numpy_stream(seed, "judge", "batches"), torch_stream(seed, "judge", "views")
    pixels, labels = to_float(real.images), torch.from_numpy(real.labels)

    def objective(index: NDArray[np.int64]) -> Tensor:
        i = torch.from_numpy(index)
        views = soften(shift_flip(pixels[i], draws), draws)
        return F.cross_entropy(judge(views), labels[i], label_smoothing=0.05)

    with global_torch_stream(seed, "judge", "training"):
        judge = Judge(settings, classes)
        judge.train()
        batches = index_batches(len(real), settings.batch, settings.steps, rng)
        fit(
            adamw(judge.parameters(), settings.rate),
            batches,
            objective,
            schedule=cosine(settings.steps),
            name="judge",
            tick=tick,
        )
    return judge.eval()
