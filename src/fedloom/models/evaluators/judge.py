"""The judge of the GAN-test: a classifier trained on real pictures only, and never a client.

Small and convolutional by default; at real size a pretrained image classifier, fine-tuned, or a linear layer on its
frozen features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.config.models import JudgeSettings
from fedloom.data.containers import ImageSet
from fedloom.models.clients.batch_norms import BatchNorm2d
from fedloom.models.device import CPU, arithmetic
from fedloom.models.evaluators.feature_extractor import FeatureExtractor
from fedloom.models.evaluators.image_network import load_classifier
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import soften, to_float
from fedloom.seeding import global_torch_stream, numpy_stream, torch_stream

VIEWS = 4  # of each picture, where the features of a frozen network are computed once


class Judge(FeatureExtractor):
    """Convolutions, batch norm, mean pooling. `features` (B, channels[-1]) serve FID; `forward` gives logits (B, C)."""

    name = "judge"

    def __init__(self, settings: JudgeSettings, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 3
        for width in settings.channels:
            blocks += [nn.Conv2d(before, width, 3, stride=1, padding=1, bias=False), BatchNorm2d(width), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)]
            before = width
        self.trunk = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)

    def features(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1] to pooled features (B, F)."""
        return self.trunk(images).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def logits(self, features: Tensor) -> Tensor:
        """Features (B, F) to logits (B, C)."""
        return self.head(features)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.logits(self.features(images))


def build_judge(settings: JudgeSettings, classes: int) -> FeatureExtractor:
    """A judge that has not been trained, on the CPU. Draws from torch's global stream.

    Raises:
        BadInput: the pretrained one cannot be loaded.
    """
    if settings.pretrained is None:
        return Judge(settings, classes)
    judge = load_classifier("evaluation.judge", settings.pretrained, classes, settings.side)
    if settings.tune == "head":
        judge.backbone.requires_grad_(False)
    judge.name = f"judge, a {judge.name}"
    return judge


def load_judge(settings: JudgeSettings, classes: int, folder: Path, device: torch.device = CPU) -> FeatureExtractor:
    """The judge that was saved in `folder`, on its device."""
    from safetensors.torch import load_file

    judge = build_judge(settings, classes)
    judge.load_state_dict(load_file(folder / "judge.safetensors"))
    return judge.eval().requires_grad_(False).to(device)


def train_judge(
    settings: JudgeSettings,
    real: ImageSet,
    classes: int,
    seed: int,
    tick: Callable[[], None] | None = None,
    device: torch.device = CPU,
) -> FeatureExtractor:
    """Train a judge on real pictures, shifted, flipped and softened (`soften`), so that a generator's blur is no cue.

    They have the side of what the generator hands out, so resolution is no cue either. A batch at a time goes to the
    device and becomes floating-point numbers there.
    """
    rng, draws = numpy_stream(seed, "judge", "batches"), torch_stream(seed, "judge", "views")
    labels = torch.from_numpy(real.labels)

    def objective(index: NDArray[np.int64]) -> Tensor:
        if settings.tune == "head":
            logits = judge.logits(seen[index].to(device))
        else:
            with arithmetic(device, settings.precision):
                logits = judge(seen_views(real.images[index], settings.soften, draws, device))
        assert logits is not None
        return F.cross_entropy(logits.float(), labels[index % len(real)].to(device), label_smoothing=0.05)

    with global_torch_stream(seed, "judge", "training"):
        judge = build_judge(settings, classes).to(device)
        seen = _features(judge, settings, real, draws, device) if settings.tune == "head" else torch.empty(0)
        judge.train()
        batches = index_batches(len(seen) or len(real), settings.batch, settings.steps, rng)
        fit(
            adamw((p for p in judge.parameters() if p.requires_grad), settings.rate),
            batches,
            objective,
            schedule=cosine(settings.steps),
            name="judge",
            tick=tick,
        )
    return judge.eval()


def seen_views(images: NDArray[np.uint8], softened: bool, draws: torch.Generator, device: torch.device = CPU) -> Tensor:
    """Pictures shifted, flipped and, if so asked, softened, float (B, 3, H, W) in [-1, 1]."""
    from fedloom.functional.augment import shift_flip

    views = shift_flip(to_float(images, device), draws)
    return soften(views, draws) if softened else views


@torch.no_grad()
def _features(
    judge: FeatureExtractor, settings: JudgeSettings, real: ImageSet, draws: torch.Generator, device: torch.device
) -> Tensor:
    """What a frozen judge's last layer reads of `VIEWS` views of each of N pictures: (VIEWS * N, F), on the CPU."""
    judge.eval()
    parts = [slice(i, i + judge.batch) for i in range(0, len(real), judge.batch)]
    return torch.cat(
        [
            judge.features(seen_views(real.images[part], settings.soften, draws, device)).cpu()
            for _ in range(VIEWS)
            for part in parts
        ]
    )
