"""A model of multimodal samples: a stream of each kind of data, and a fusion head over both.

What FedCMI and the methods it is compared with train (arXiv 2401.00894): a ResNet on log-spectrograms beside a ResNet
on frames, or a picture model beside a text model. A sample may lack either kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.models.clients.batch_norms import also_of_one
from fedloom.models.clients.fusion_heads import FUSIONS
from fedloom.tasks import MODALITIES, Modality

Features = dict[Modality, Tensor]


class MultimodalClassifier(nn.Module):
    """Logits F(h_1, h_2) of the features of two streams.

    Inputs of a batch, besides those of its kinds: present bool (B, 2), in the order of the streams. Of the kinds:
    spectrogram (B, 1, F, T); frames (B, M, 3, H, W) in [-1, 1]; input_ids and attention_mask (B, L). In place of frames
    or texts, what a frozen tower makes of them: image_features (B, M, F), text_features (B, F).

    Args:
        towers: two models (`ClientModel`) of one width without `unit`, whose heads are taken off.
        kinds: what each reads.
        classes: C.
        fusion: of `FUSIONS`.

    Attributes:
        width: d.
        kinds: the streams' kinds, in order.
    """

    fills = False  # whether it has something better than zeros where a stream is missing

    def __init__(
        self,
        towers: Sequence[nn.Module],
        kinds: tuple[Modality, Modality],
        classes: int,
        fusion: str = "concat",
    ) -> None:
        super().__init__()
        first, second = (tower.width for tower in towers)
        if first != second:
            raise ValueError(f"streams of width {first} and {second}: expected one width")
        for tower in towers:
            tower.head = nn.Identity()
            also_of_one(tower)
        self.kinds, self.classes = kinds, classes
        self.width: int = first  # type: ignore[assignment]
        self.streams = nn.ModuleDict(dict(zip(kinds, towers)))
        self.fusion = FUSIONS[fusion](self.width, classes)

    def features(self, present: Tensor, **inputs: Tensor) -> Features:
        """h (B, d) of each stream: the mean over a clip's frames; zeros where the sample lacks that kind.

        A stream sees only the samples that have its kind, so that blanks do not enter its statistics.
        """
        return {kind: self._stream(kind, present[:, i], inputs) for i, kind in enumerate(self.kinds)}

    def _stream(self, kind: Modality, there: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        tower: Any = self.streams[kind]
        at = torch.nonzero(there)[:, 0]
        if not len(at):
            return torch.zeros(len(there), self.width)
        looked = FEATURES[kind] in inputs
        own = {name: inputs[name][at] for name in ((FEATURES[kind],) if looked else INPUTS[kind])}
        if kind == Modality.IMAGE:
            (frames,) = own.values()
            each = {"features" if looked else "pixel_values": frames.flatten(0, 1)}
            h = tower.encode(**each).unflatten(0, frames.shape[:2]).mean(1)
        elif looked:
            h = tower.encode(features=own[FEATURES[kind]])
        elif kind == Modality.AUDIO:
            h = tower.encode(pixel_values=own["spectrogram"])
        else:
            h = tower.encode(**own)
        if len(at) == len(there):
            return h  # type: ignore[no-any-return]
        return torch.zeros(len(there), self.width).index_copy(0, at, h)

    def joined(self, h: Features, present: Tensor, fill: bool = True) -> Tensor:
        """What the fusion head reads, (B, 2d), of features whose missing rows are zeros. fill: of no effect here."""
        return torch.cat([h[kind] * present[:, [i]] for i, kind in enumerate(self.kinds)], dim=1)

    def own(self, kind: Modality, h: Tensor) -> Tensor:
        """Logits (B, C) of one stream's features (B, d) alone: the other's are zeros."""
        none = torch.zeros_like(h)
        first, second = (h, none) if kind == self.kinds[0] else (none, h)
        return self.fusion(first, second)  # type: ignore[no-any-return]

    def encode(self, present: Tensor, **inputs: Tensor) -> Tensor:
        """What the fusion head reads, (B, 2d)."""
        return self.joined(self.features(present, **inputs), present)

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of what the fusion head reads (B, 2d)."""
        return self.fusion(*z.chunk(2, dim=1))  # type: ignore[no-any-return]

    def forward(self, present: Tensor, **inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.classify(self.encode(present, **inputs))

    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write `folder/KIND` of each stream, a stock folder whose logits are its features, and what fuses them."""
        export_streams(self, {}, folder, class_names)


INPUTS: dict[Modality, tuple[str, ...]] = {
    Modality.AUDIO: ("spectrogram",),
    Modality.IMAGE: ("frames",),
    Modality.TEXT: ("input_ids", "attention_mask"),
}


FEATURES = {kind: f"{kind}_features" for kind in INPUTS}  # of frozen towers, in place of those


def group_of(name: str) -> Modality | None:
    """The stream that a parameter of a multimodal classifier belongs to, by its name; None: the fusion head's."""
    return next((kind for part in name.split(".") for kind in MODALITIES if part == kind), None)


def export_streams(
    model: MultimodalClassifier, more: dict[str, nn.Module], folder: Path, class_names: Iterable[str]
) -> None:
    """Write both streams as stock folders, and fusion.safetensors with the fusion head and the modules of `more`."""
    from safetensors.torch import save_file

    for kind, tower in model.streams.items():
        tower.export_rows(folder / kind)  # type: ignore[operator]
    tensors = {
        f"{part}.{name}": value.contiguous()
        for part, module in {"fusion": model.fusion, **more}.items()
        for name, value in module.state_dict().items()
    }
    save_file(tensors, folder / "fusion.safetensors")
    about = {
        "classes": list(class_names),
        "streams": list(model.kinds),
        "fusion": type(model.fusion).__name__.lower(),
        "how": "each stream's folder gives features h as its logits (of frames: their mean); fusion.safetensors holds "
        "what turns them into scores",
    }
    (folder / "fusion.json").write_text(json.dumps(about, indent=2) + "\n")
