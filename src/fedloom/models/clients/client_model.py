"""A client's classifier: backbone, projector to the shared width where needed, linear head.

`encode` is g_k of the papers, `classify` is h_k: a representation is exactly what enters the last linear layer.

The backbone alone may live on an accelerator, and compute in less than single precision: what goes into it is moved
there, what comes out is float32 on the CPU again. All else, here and in the methods, need not know.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fedloom.config.archs import spec_of
from fedloom.config.base import Precision
from fedloom.errors import BadInput, unknown
from fedloom.functional.norms import unit as of_unit_length
from fedloom.models.clients.preprocessing import ImagePreprocessor
from fedloom.models.clients.text import own_lengths
from fedloom.models.device import CPU, arithmetic, parts_of, place_of
from fedloom.models.pictures import ready
from fedloom.models.side_by_side import side_by_side
from fedloom.registry import outside_code

# A linear head of usual weights on rows of length 1 gives logits within about 1: cross-entropy stays far from 0. 16 is
# the length that layer-normalised rows have at the papers' width, sqrt(256).
UNIT_SCALE = 16.0
FEATURES_BATCH = 128  # samples at a time through a frozen backbone, on an accelerator
UNIT_HOW = "logits = weight @ (scale * z / |z|) + bias, one a class, of z that this folder's model gives as its logits"


class Classifier(nn.Module):
    """Logits of representations; a subclass has `encode(**inputs)` and `head`."""

    head: nn.Module

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of representations z (B, D)."""
        return self.head(z)  # type: ignore[no-any-return]

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.classify(self.encode(**inputs))  # type: ignore[operator]


class ClientModel(Classifier):
    """A classifier cut before its last linear layer.

    Inputs are what `to_float` / `tokenize` give: pixel_values float (B, 3, H, W) in [-1, 1], of any side where there is
    a preprocessor; or input_ids and attention_mask int64 (B, L); of audio, pixel_values are log-spectrograms
    (B, 1, F, T).

    Args:
        backbone: the classifier.
        arch: its architecture, whose `ClientModelSpec` says where the last layer is.
        classes: C.
        width: D.
        unit: rows of z have length 1, and the head reads them times `UNIT_SCALE`.
        preprocessor: how pretrained weights read images; None: as they come.

    Raises:
        BadInput: the backbone is no module, or has no linear layer of C outputs where its last one should be.
    """

    def __init__(
        self,
        backbone: nn.Module,
        arch: str,
        classes: int,
        width: int,
        *,
        unit: bool = False,
        preprocessor: ImagePreprocessor | None = None,
    ) -> None:
        super().__init__()
        self.arch, self.unit, self.width, self.preprocessor = arch, unit, width, preprocessor
        self.precision: Precision = "fp32"
        self._last, last = _last_layer(backbone, arch, classes)
        self.features = own = last.in_features
        backbone.set_submodule(self._last, nn.Identity())
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

    def backbone_features(self, **inputs: Tensor) -> Tensor:
        """The backbone's output, float32 (B, F) on the CPU."""
        out: Tensor = self._answer(inputs).logits
        return out.float().to(out.device if out.device.type == "meta" else CPU)  # a plan counts, without numbers

    def _answer(self, inputs: Mapping[str, Tensor]) -> Any:
        """What the backbone says, where it is."""
        device = place_of(self.backbone)
        there = {name: value.to(device) for name, value in inputs.items()}
        if "pixel_values" in there and self.preprocessor is not None:
            there["pixel_values"] = self.preprocessor(there["pixel_values"])
        with arithmetic(device, self.precision):
            return self.backbone(**there)

    @torch.no_grad()
    def check_backbone(self, **inputs: Tensor) -> None:
        """Raises BadInput where a backbone from outside does not take these inputs, or gives them no `logits` (B, F).

        It and torch's random stream are left as they were.
        """
        who = f"client model {spec_of(self.arch).name}: {type(self.backbone).__name__}.forward"
        try:
            inspect.signature(self.backbone.forward).bind(**inputs)
        except TypeError as error:
            raise BadInput(f"{who} is called with {', '.join(inputs)}: {error}") from None
        modes = {part: part.training for part in self.backbone.modules()}
        self.backbone.eval()  # no statistics of a batch are kept
        with torch.random.fork_rng(devices=[]):
            out = self._answer(inputs)
        for part, mode in modes.items():
            part.training = mode
        logits, wanted = getattr(out, "logits", None), (len(next(iter(inputs.values()))), self.features)
        if not isinstance(logits, Tensor):
            raise BadInput(f"{who} returned a {type(out).__name__}, expected an output that has logits, a tensor")
        if logits.shape != wanted:
            raise BadInput(
                f"{who}, without its last layer {self._last!r}, returned logits {tuple(logits.shape)}, expected "
                f"{wanted}: what that layer reads"
            )

    def encode(self, **inputs: Tensor) -> Tensor:
        """Representations z (B, D)."""
        return self.project(self.backbone_features(**inputs))

    def project(self, features: Tensor) -> Tensor:
        """Representations z (B, D) of the backbone's features (B, F)."""
        z: Tensor = self.projector(features)
        return of_unit_length(z) if self.unit else z

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of representations z (B, D)."""
        return super().classify(UNIT_SCALE * z if self.unit else z)

    @torch.no_grad()
    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write a stock transformers folder that `AutoModelFor...Classification` loads with the same logits.

        Projector and head are both linear, so they merge into the one linear layer the stock class has. With `unit` a
        length stands between them, which no stock class can divide by: then the folder is that of `export_rows`, and
        head.safetensors and head.json beside it say how logits come of its rows.
        """
        head: Any = self.head
        if self.unit:
            self.export_rows(folder)
            _write_head(folder, head, class_names)
        elif isinstance(self.projector, nn.Linear):
            bias = head.weight @ self.projector.bias + head.bias
            self._write(folder, head.weight @ self.projector.weight, bias, class_names)
        else:
            self._write(folder, head.weight, head.bias, class_names)

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
        self.backbone.set_submodule(self._last, last)
        try:
            if not hasattr(self.backbone, "save_pretrained"):
                export_weights(self.backbone, folder, names, f"a {self.arch}")
                return
            config: Any = self.backbone.config
            config.num_labels = len(names)
            config.id2label = dict(enumerate(names))
            config.label2id = {name: i for i, name in enumerate(names)}
            self.backbone.save_pretrained(folder)  # type: ignore[operator]
        finally:
            self.backbone.set_submodule(self._last, nn.Identity())


class FrozenClientModel(ClientModel):
    """A model whose backbone is never trained: only a projector and the head are (`tune = "head"`).

    So the features of a sample are computed once, and kept, where samples are not augmented.

    Attributes:
        given: SHA-256 of the backbone's weights as a library gave them, which are then not saved with every round
            (`methods.given`); "" of others.
    """

    given = ""
    _known: tuple[Any, list[Tensor], str] | None = None  # state of the backbone, its weights, their digest

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
    def features_key(self) -> str:
        """What its frozen features depend on besides the samples."""
        digest = hashlib.sha256(f"{self.arch} {self.preprocessor} {self.precision}".encode())
        digest.update("".join(outside_code(self.arch).values()).encode())  # none of what is built in
        digest.update(place_of(self.backbone).type.encode())
        _add_weights(digest, self.backbone)
        return digest.hexdigest()

    def backbone_digest(self) -> str:
        """SHA-256 of the backbone's weights as they are now; taken anew only where they may have changed."""
        weights = [p.detach() for p in self.backbone.parameters()]
        small = hashlib.sha256()  # a batch norm's buffers change in place, which torch does not always count
        _add_tensors(small, dict(self.backbone.named_buffers()))
        state = small.hexdigest(), [(w.data_ptr(), w._version) for w in weights]
        trains = any(p.requires_grad for p in self.backbone.parameters())
        if trains or self._known is None or self._known[0] != state:
            digest = hashlib.sha256()
            _add_weights(digest, self.backbone)
            # The weights are held, so that no others can come to lie where they lie now.
            self._known = state, weights, digest.hexdigest()
        return self._known[2]

    @torch.no_grad()
    def frozen_features(self, **inputs: Tensor) -> Tensor:
        """Frozen features (N, F) of inputs as `encode` takes them, or of pictures as they are stored, uint8."""
        self.backbone.eval()
        if not len(next(iter(inputs.values()))):  # of no samples: as wide as of one
            return self._looked_at({k: v.new_zeros((1, *v.shape[1:])) for k, v in inputs.items()})[:0]
        mask = inputs.get("attention_mask")
        if mask is None:
            return self._looked_at(inputs)
        lengths = own_lengths(mask)
        groups = [torch.nonzero(lengths == length).flatten() for length in torch.unique(lengths)]
        seen = [self._looked_at({k: v[own, : lengths[own[0]]] for k, v in inputs.items()}) for own in groups]
        return torch.cat(seen)[torch.cat(groups).argsort()]

    def _looked_at(self, inputs: Mapping[str, Tensor]) -> Tensor:
        place = place_of(self.backbone)

        def look(part: slice) -> Tensor:
            return self.backbone_features(**ready({k: v[part] for k, v in inputs.items()}, place))

        return torch.cat(side_by_side(look, parts_of(len(next(iter(inputs.values()))), place, FEATURES_BATCH)))

    def encode(self, features: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Representations z (B, D) of inputs, or of what `frozen_features` gave for them."""
        if features is None:
            with torch.no_grad():
                features = self.backbone_features(**inputs)
        return self.project(features)


def _add_weights(digest: Any, backbone: nn.Module) -> None:
    _add_tensors(digest, backbone.state_dict())


def _add_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _last_layer(backbone: Any, arch: str, classes: int) -> tuple[str, nn.Linear]:
    """Where the last layer of what a spec has built is, and the layer."""
    spec = spec_of(arch)
    who = f"client model {spec.name}:"
    if not isinstance(backbone, nn.Module):
        raise BadInput(f"{who} backbone returned {backbone!r:.80}, expected a torch.nn.Module that answers with logits")
    what = type(backbone).__name__
    place = spec.head if isinstance(spec.head, str) else spec.head(backbone)
    try:
        last = backbone.get_submodule(place)
    except AttributeError:
        linear = [name for name, part in backbone.named_modules() if isinstance(part, nn.Linear)]
        raise BadInput(f"{who} {what}: {unknown('head', place, linear)}") from None
    if not isinstance(last, nn.Linear):
        raise BadInput(f"{who} {what}.{place} is a {type(last).__name__}, expected a Linear layer")
    if last.out_features != classes:
        raise BadInput(f"{who} {what}.{place} has {last.out_features} outputs, expected {classes}, one a class")
    return place, last


def _write_head(folder: Path, head: nn.Linear, class_names: tuple[str, ...]) -> None:
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in head.state_dict().items()}, folder / "head.safetensors")
    about = {"classes": list(class_names), "scale": UNIT_SCALE, "how": UNIT_HOW}
    (folder / "head.json").write_text(json.dumps(about, indent=2) + "\n")


def export_weights(model: nn.Module, folder: Path, class_names: tuple[str, ...], what: str) -> None:
    """Write a model that is not a stock one: weights, class names, and a note on how it is built again."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    about = {"fedloom": type(model).__name__, "holds": what, "class_names": list(class_names)}
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")
    (folder / "README.md").write_text(
        f"The weights of a client's model: {what}.\n"
        "It is no stock transformers model: the run's own configuration (config.yaml, `clients` and `settings`)\n"
        "builds it again, and `load_state_dict` takes these weights.\n"
    )


def towers(model: nn.Module) -> list[nn.Module]:
    """The client models of one modality that a model is made of, in the order of `ModelSettings.towers`."""
    bare: Any = getattr(model, "bare", model)
    if hasattr(bare, "streams"):
        return list(bare.streams.values())
    return [bare.image, bare.text] if hasattr(bare, "text") else [bare]
