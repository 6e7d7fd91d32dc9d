"""What sees attributes in drawn pictures: a classifier with a head for each, trained on real pictures only.

Beside the judge and not a part of it, so that asking for these scores changes no other. Evaluation only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedloom.config.models import JudgeSettings
from fedloom.data.containers import Attribute
from fedloom.models.evaluators.judge import Judge, seen_views
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.seeding import global_torch_stream, numpy_stream, torch_stream

HELD_OUT = 5  # of so many reference pictures one is not trained on, and tells how well attributes are seen


class AttributeJudge(Judge):
    """The judge's network with the heads of all attributes side by side: logits (B, sum of V)."""

    name = "attribute judge"

    def __init__(self, settings: JudgeSettings, attributes: Mapping[str, Attribute]) -> None:
        self.sizes = {name: len(attribute.values) for name, attribute in attributes.items()}
        super().__init__(settings, sum(self.sizes.values()))

    def by_attribute(self, logits: Tensor) -> dict[str, Tensor]:
        """Logits (B, sum of V) as (B, V) of each attribute."""
        return dict(zip(self.sizes, torch.split(logits, list(self.sizes.values()), dim=1)))

    @torch.no_grad()
    def see(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
        """The value of each attribute in pictures (N, H, W, 3), in 0..V-1: (N,)."""
        features, _ = self.look(images)
        found = self.by_attribute(self.logits(features.to(self.head.weight.device)))
        return {name: logits.argmax(1).cpu().numpy() for name, logits in found.items()}


def held_out(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of n reference pictures are trained on, and which are not."""
    index = np.arange(n)
    return index[index % HELD_OUT != HELD_OUT - 1], index[index % HELD_OUT == HELD_OUT - 1]


def _sizes(settings: JudgeSettings) -> JudgeSettings:
    """Of the judge; of the small one where that is a given network, whose rates fit nothing else."""
    return settings if settings.pretrained is None else JudgeSettings()


def load_attribute_judge(settings: JudgeSettings, attributes: Mapping[str, Attribute], folder: Path) -> AttributeJudge:
    """The one that was saved in `folder`."""
    from safetensors.torch import load_file

    judge = AttributeJudge(_sizes(settings), attributes)
    judge.load_state_dict(load_file(folder / "attributes.safetensors"))
    return judge.eval().requires_grad_(False)


def train_attribute_judge(
    settings: JudgeSettings,
    images: NDArray[np.uint8],
    attributes: Mapping[str, Attribute],
    seed: int,
    tick: Callable[[], None] | None = None,
) -> AttributeJudge:
    """Train on real pictures (N, H, W, 3), all but the held-out ones, augmented as the judge's are."""
    s, (own, _) = _sizes(settings), held_out(len(images))
    rng, draws = numpy_stream(seed, "attributes", "batches"), torch_stream(seed, "attributes", "views")
    truth = {name: torch.from_numpy(attribute.labels) for name, attribute in attributes.items()}

    def objective(index: NDArray[np.int64]) -> Tensor:
        at = own[index]
        logits = judge.by_attribute(judge(seen_views(images[at], s.soften, draws)))
        return torch.stack([F.cross_entropy(logits[name], labels[at]) for name, labels in truth.items()]).mean()

    with global_torch_stream(seed, "attributes", "training"):
        judge = AttributeJudge(s, attributes)
        judge.train()
        batches = index_batches(len(own), s.batch, s.steps, rng)
        fit(
            adamw(judge.parameters(), s.rate),
            batches,
            objective,
            schedule=cosine(s.steps),
            name="attributes",
            tick=tick,
        )
    return judge.eval()
