"""FedCMI's model: two projectors and a classifier beside each stream, and the loss that ties them (arXiv 2401.00894).

z_m = S_m(h_m)   Self-Projector              o_m^self = G_m(z_m)
u_m = X_m(h_m)   Infiltration-Projector      o_m^inf  = G_m(u_m)
o   = F([z_1; z_2]); where a sample lacks kind m, u of the other kind takes the place of z_m
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedloom.models.clients.multimodal import Features, MultimodalClassifier, export_streams
from fedloom.tasks import Modality


class Projections(NamedTuple):
    """z and u (B, d) of each stream, of features h."""

    own: Features
    infiltrated: Features


def projector(width: int, layers: int) -> nn.Module:
    """d -> d: `layers` linear layers with ReLU between; none is the identity."""
    if not layers:
        return nn.Identity()
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class FoldTeacher(nn.Module):
    """Both streams and a linear classifier on each: what teaches the samples of a fold that it has not seen.

    Its first weights are those of the model beside it. It has no fusion head: only one kind at a time teaches.
    """

    def __init__(self, bare: MultimodalClassifier, classifiers: nn.ModuleDict) -> None:
        super().__init__()
        self.net, self.classifiers = copy.deepcopy(bare), copy.deepcopy(classifiers)
        self.net.fusion = nn.Identity()

    def own(self, present: Tensor, **inputs: Tensor) -> Features:
        """Logits (B, C) by each kind alone; meaningless where the sample lacks it."""
        return {kind: self.classifiers[kind](h) for kind, h in self.net.features(present, **inputs).items()}


class FoldTeachers(nn.ModuleList):
    """F of them: number f learns from samples of all folds but f, and teaches those of fold f. folds: int64 (B,)."""

    def loss(self, inputs: dict[str, Tensor], labels: Tensor, folds: Tensor) -> Tensor:
        """Each kind's cross-entropy, summed over teachers and kinds, of each teacher's mean over what it may see."""
        total = torch.zeros(())
        for f, teacher in enumerate(self):
            seen = {k: v[folds != f] for k, v in inputs.items()}
            if not len(seen["present"]):
                continue
            for i, logits in enumerate(cast(FoldTeacher, teacher).own(**seen).values()):
                there = seen["present"][:, i]
                if there.any():
                    total = total + F.cross_entropy(logits[there], labels[folds != f][there])
        return total

    def own(self, inputs: dict[str, Tensor], kind: Modality, folds: Tensor) -> Tensor:
        """Logits (B, C) by that kind, of each sample by its fold's teacher."""
        said = [
            (at, cast(FoldTeacher, teacher).own(**{k: v[at] for k, v in inputs.items()})[kind])
            for f, teacher in enumerate(self)
            if len(at := torch.nonzero(folds == f)[:, 0])
        ]
        at, logits = (torch.cat(part) for part in zip(*said))
        return logits[at.argsort()]


class Infiltrated(nn.Module):
    """A multimodal classifier with projectors and classifiers. `bare` keeps its names.

    Args:
        bare: the model.
        layers: linear layers of a projector.
        self_projector: False: S_m is the identity of X_m: pure imitation, one projector for both (an ablation).
        folds: how many `FoldTeacher` there are besides.
    """

    fills = True

    def __init__(
        self, bare: MultimodalClassifier, layers: int = 1, *, self_projector: bool = True, folds: int = 0
    ) -> None:
        super().__init__()
        d, kinds = bare.width, bare.kinds
        self.bare, self.kinds, self.width, self.classes = bare, kinds, d, bare.classes
        self.infiltration = nn.ModuleDict({k: projector(d, layers) for k in kinds})
        self.self_projectors = nn.ModuleDict({k: projector(d, layers) for k in kinds} if self_projector else {})
        self.classifiers = nn.ModuleDict({k: nn.Linear(d, bare.classes) for k in kinds})
        self.folds = FoldTeachers(FoldTeacher(bare, self.classifiers) for _ in range(folds))

    def features(self, present: Tensor, **inputs: Tensor) -> Features:
        """h (B, d) of each stream; zeros where the sample lacks that kind."""
        return self.bare.features(present, **inputs)

    def project(self, h: Features) -> Projections:
        """z and u of each stream. Without self-projectors both are u."""
        u: Features = {k: self.infiltration[k](h[k]) for k in self.kinds}
        z: Features = {k: self.self_projectors[k](h[k]) for k in self.kinds} if self.self_projectors else u
        return Projections(z, u)

    def fuse(self, p: Projections, present: Tensor, fill: bool = True) -> Tensor:
        """What the fusion head reads (B, 2d): z; in a missing one's place u of the other kind, or zeros."""
        slots = []
        for i, kind in enumerate(self.kinds):
            other = self.kinds[1 - i]
            there = present[:, [i]]
            substitute = p.infiltrated[other] if fill else torch.zeros_like(p.own[kind])
            slots.append(torch.where(there, p.own[kind], substitute))
        return torch.cat(slots, dim=1)

    def joined(self, h: Features, present: Tensor, fill: bool = True) -> Tensor:
        """What the fusion head reads (B, 2d), of features."""
        return self.fuse(self.project(h), present, fill)

    def own(self, kind: Modality, h: Tensor) -> Tensor:
        """o_m^self (B, C) of one stream's features (B, d)."""
        projectors = self.self_projectors if self.self_projectors else self.infiltration
        return self.classifiers[kind](projectors[kind](h))  # type: ignore[no-any-return]

    def encode(self, present: Tensor, **inputs: Tensor) -> Tensor:
        """What the fusion head reads (B, 2d)."""
        return self.joined(self.features(present, **inputs), present)

    def classify(self, z: Tensor) -> Tensor:
        """o (B, C) of what the fusion head reads (B, 2d)."""
        return self.bare.classify(z)

    def forward(self, present: Tensor, **inputs: Tensor) -> Tensor:
        """o (B, C)."""
        return self.classify(self.encode(present, **inputs))

    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """As a multimodal classifier's, with projectors and classifiers in fusion.safetensors."""
        more = {
            name: cast(nn.Module, getattr(self, name)) for name in ("self_projectors", "infiltration", "classifiers")
        }
        export_streams(self.bare, more, folder, class_names)
