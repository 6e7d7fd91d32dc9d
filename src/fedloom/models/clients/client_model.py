"""A client's classifier: backbone, projector to the shared width where needed, linear head.

`encode` is g_k of the papers, `classify` is h_k: a representation is exactly what enters the last linear layer.

The backbone alone may live on an accelerator, and compute in less than single precision: what goes into it is moved
there, what comes out is float32 on the CPU again. All else, here and in the methods, need not know.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fedloom.config.base import Precision
from fedloom.errors import BadInput
from fedloom.functional.norms import unit as of_unit_length
from fedloom.models.clients.preprocessing import ImagePreprocessor
from fedloom.models.device import CPU, arithmetic, place_of
from fedloom.models.pictures import ready

# Where each transformers class keeps its last linear layer.
_HEAD = {
    "vit": "classifier",
    "beit": "classifier",
    "resnet": "classifier.1",
    "audio-resnet": "classifier.1",
    "bert": "classifier",
    "distilbert": "classifier",
    "roberta": "classifier.out_proj",
    "gru": "classifier",
}
# A linear head of usual weights on rows of length 1 gives logits within about 1: cross-entropy stays far from 0. 16 is
# the length that layer-normalised rows have at the papers' width, sqrt(256).
UNIT_SCALE = 16.0
LOOK_BATCH = 128  # samples at a time through a frozen backbone
UNIT_HOW = "logits = weight @ (scale * z / |z|) + bias, one a class, of z that this folder's model gives as its logits"


class ClientModel(nn.Module):
    """A transformers classifier cut before its last linear layer.

    Inputs are what `to_float` / `tokenize` give: pixel_values float (B, 3, H, W) in [-1, 1], of any side where `optics`
    are given; or input_ids and attention_mask int64 (B, L); of an audio-resnet, pixel_values are log-spectrograms
    (B, 1, F, T).

    Args:
        backbone: the classifier.
        arch: what it is, of `IMAGE_ARCHS` or `TEXT_ARCHS`.
        classes: C.
        width: D.
        unit: rows of z have length 1, and the head reads them times `UNIT_SCALE`.
        optics: how pretrained weights want to see pictures; None: as they come.
    """

    def __init__(
        self,
        backbone: nn.Module,
        arch: str,
        classes: int,
        width: int,
        *,
        unit: bool = False,
        optics: ImagePreprocessor | None = None,
    ) -> None:
        super().__init__()
        self.arch, self.unit, self.width, self.optics = arch, unit, width, optics
        self.precision: Precision = "fp32"
        last = backbone.get_submodule(_HEAD[arch])
        if not isinstance(last, nn.Linear):
            raise BadInput(f"{arch}: {_HEAD[arch]} is a {type(last).__name__}, expected a Linear layer")
        own = last.in_features
        backbone.set_submodule(_HEAD[arch], nn.Identity())
        self.backbone = backbone
        self.projector: nn.Module = nn.Linear(own, width) if own != width else nn.Identity()
        self.head = nn.Linear(width, classes)

    def settle(self, device: torch.device, precision: Precision = "fp32", checkpointing: bool = False) -> None:
        """Put the backbone on a device, to compute there in that precision.

        checkpointing: compute its activations twice instead of keeping them, where its class can.
        """
        backbone: Any = self.backbone.to(device)
        self.precision = precision
        if checkpointing and getattr(backbone, "supports_gradient_checkpointing", False):
            backbone.gradient_checkpointing_enable({"use_reentrant": False})

    def see(self, **inputs: Tensor) -> Tensor:
        """What the backbone makes of inputs, float32 (B, F) on the CPU."""
        device = place_of(self.backbone)
        there = {name: value.to(device) for name, value in inputs.items()}
        if "pixel_values" in there and self.optics is not None:
            there["pixel_values"] = self.optics(there["pixel_values"])
        with arithmetic(device, self.precision):
            out: Tensor = self.backbone(**there).logits
        return out.float().to(device if device.type == "meta" else CPU)  # a plan counts, without numbers

    def encode(self, **inputs: Tensor) -> Tensor:
        """Representations z (B, D)."""
        return self.project(self.see(**inputs))

    def project(self, features: Tensor) -> Tensor:
        """Representations z (B, D) of what the backbone has made, (B, F)."""
        z: Tensor = self.projector(features)
        return of_unit_length(z) if self.unit else z

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of representations z (B, D)."""
        return self.head(UNIT_SCALE * z if self.unit else z)  # type: ignore[no-any-return]

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.classify(self.encode(**inputs))

    @torch.no_grad()
    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write a stock transformers folder that `AutoModelFor...Classification` loads with the same logits.

        Projector and head are both linear, so they merge into the one linear layer the stock class has. With `unit` a
        length stands between them, which no stock class can divide by: then the folder is that of `export_rows`, and
        head.safetensors and head.json beside it say how logits come of its rows.
        """
        weight: Tensor = self.head.weight
        bias: Tensor = self.head.bias
        if self.unit:
            self.export_rows(folder)
            _write_head(folder, weight, bias, class_names)
            return
        if isinstance(self.projector, nn.Linear):
            bias = weight @ self.projector.bias + bias
            weight = weight @ self.projector.weight
        self._write(folder, weight, bias, class_names)

    @torch.no_grad()
    def export_rows(self, folder: Path) -> None:
        """Write a stock folder whose logits (B, D) are z itself, before any normalisation."""
        names = tuple(f"z{i}" for i in range(self.width))
        if isinstance(self.projector, nn.Linear):
            self._write(folder, self.projector.weight, self.projector.bias, names)
        else:
            self._write(folder, torch.eye(self.width), torch.zeros(self.width), names)

    def _write(self, folder: Path, weight: Tensor, bias: Tensor, names: tuple[str, ...]) -> None:
        """The backbone with a last layer of these weights, whose outputs have these names."""
        last = nn.Linear(weight.shape[1], weight.shape[0])
        last.weight.copy_(weight)
        last.bias.copy_(bias)
        self.backbone.set_submodule(_HEAD[self.arch], last)
        config: Any = self.backbone.config
        config.num_labels = len(names)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
        try:
            self.backbone.save_pretrained(folder)  # type: ignore[operator]
        finally:
            self.backbone.set_submodule(_HEAD[self.arch], nn.Identity())


class FrozenClientModel(ClientModel):
    """A learner whose backbone is never trained: only a projector and the head are (`tune = "head"`).

    So what the backbone makes of a sample is made once, and kept (`features`), where samples are not augmented.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        if isinstance(self.projector, nn.Identity):  # without one z could not follow anything
            linear = nn.Linear(self.width, self.width)
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
            self.projector = linear
        self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for projector and head; the backbone stays as it is."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def looks_with(self) -> str:
        """What its frozen features depend on besides the samples."""
        digest = hashlib.sha256(f"{self.arch} {self.optics} {self.precision}".encode())
        digest.update(place_of(self.backbone).type.encode())
        for name, value in self.backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.no_grad()
    def look(self, **inputs: Tensor) -> Tensor:
        """Frozen features (N, F) of inputs as `encode` takes them, or of pictures as they are stored, uint8."""
        self.backbone.eval()
        starts = range(0, len(next(iter(inputs.values()))), LOOK_BATCH)
        parts = ({k: v[i : i + LOOK_BATCH] for k, v in inputs.items()} for i in starts)
        return torch.cat([self.see(**ready(part, place_of(self.backbone))) for part in parts])

    def encode(self, features: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Representations z (B, D) of inputs, or of what `look` gave for them."""
        if features is None:
            with torch.no_grad():
                features = self.see(**inputs)
        return self.project(features)


def _write_head(folder: Path, weight: Tensor, bias: Tensor, class_names: tuple[str, ...]) -> None:
    from safetensors.torch import save_file

    save_file({"weight": weight.contiguous(), "bias": bias.contiguous()}, folder / "head.safetensors")
    about = {"classes": list(class_names), "scale": UNIT_SCALE, "how": UNIT_HOW}
    (folder / "head.json").write_text(json.dumps(about, indent=2) + "\n")


def towers(learner: nn.Module) -> list[nn.Module]:
    """The learners of one modality within a learner, in the order of `ModelSettings.towers`."""
    bare: Any = getattr(learner, "bare", learner)
    if hasattr(bare, "streams"):
        return list(bare.streams.values())
    return [bare.image, bare.text] if hasattr(bare, "text") else [bare]
