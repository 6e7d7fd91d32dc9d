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

from fedloom.data.joint import Kind
from fedloom.errors import BadInput
from fedloom.functional.norms import unit as of_unit_length
from fedloom.models.adapters import train_only
from fedloom.models.device import CPU, arithmetic, place_of
from fedloom.models.frozen import Precision
from fedloom.models.given import load_given
from fedloom.models.optics import Optics, read_optics
from fedloom.models.pictures import ready
from fedloom.models.settings import DUAL_ARCHS, LearnerSettings
from fedloom.models.text import tokenize
from fedloom.weights import hub_arguments, placed

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
BLANK_PIXEL = 0.0  # grey: the middle of [-1, 1]
TEXT_LENGTH_MARGIN = 2  # RoBERTa counts positions from padding_idx + 1
# A linear head of usual weights on rows of length 1 gives logits within about 1: cross-entropy stays far from 0. 16 is
# the length that layer-normalised rows have at the papers' width, sqrt(256).
UNIT_SCALE = 16.0
LOOK_BATCH = 128  # samples at a time through a frozen backbone
UNIT_HOW = "logits = weight @ (scale * z / |z|) + bias, one a class, of z that this folder's model gives as its logits"


class Learner(nn.Module):
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
        optics: Optics | None = None,
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

    def settle(
        self, device: torch.device, precision: Precision = "fp32", checkpointing: bool = False
    ) -> None:
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


class FrozenLearner(Learner):
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


def build_learner(
    settings: LearnerSettings,
    *,
    classes: int,
    image_size: int = 32,
    tokenizer: Any = None,
    streams: tuple[Kind, ...] = (),
) -> nn.Module:
    """A learner from its settings: tiny and random, or around pretrained weights. Draws from torch's global stream.

    Args:
        classes: C (a dual encoder has none).
        image_size: side of pictures in pixels.
        tokenizer: of whatever reads texts.
        streams: the two kinds of joint samples; then the towers are two streams, not a dual encoder.
    """
    if streams:
        from fedloom.models.two_stream import TwoStream

        both = [_tower(s, 1, image_size, tokenizer) for s in settings.towers()]
        return TwoStream(both, (streams[0], streams[1]), classes, settings.fusion)
    dual = settings.arch in DUAL_ARCHS
    kind = FrozenLearner if settings.tune == "head" else Learner
    built = [
        _tower(s, 1 if dual else classes, image_size, tokenizer, settings.unit and not dual, kind)
        for s in settings.towers()
    ]
    learner = built[0]
    if dual:
        from fedloom.models.dual import Dual

        learner = Dual(built[0], built[1])
    elif settings.arch == "pair":
        from fedloom.models.pair import Pair

        size = getattr(built[0].backbone.config, "image_size", image_size)
        blank = {"pixel_values": torch.full((1, 3, size, size), BLANK_PIXEL)}
        learner = Pair(built[0], built[1], (blank, tokenize(tokenizer, [""])), classes)
    return train_only(learner, settings)


def towers(learner: nn.Module) -> list[nn.Module]:
    """The learners of one modality within a learner, in the order of `LearnerSettings.towers`."""
    bare: Any = getattr(learner, "bare", learner)
    if hasattr(bare, "streams"):
        return list(bare.streams.values())
    return [bare.image, bare.text] if hasattr(bare, "text") else [bare]


def _tower(
    settings: LearnerSettings,
    classes: int,
    image_size: int,
    tokenizer: Any,
    unit: bool = False,
    kind: type[Learner] = Learner,
) -> Any:
    if settings.arch == "frozen-mobilenet":
        from fedloom.models.mobilenet import FeatureLearner, load_mobilenet

        assert settings.pretrained is not None  # LearnerSettings demands it
        trunk = load_mobilenet(settings.pretrained)
        return FeatureLearner(trunk, classes, settings.width, settings.side, unit=unit)
    if settings.arch == "gru":
        backbone = _gru(settings, classes, tokenizer)
    elif settings.pretrained:
        backbone = _pretrained(settings, classes)
    elif settings.arch in ("vit", "beit", "resnet", "audio-resnet"):
        backbone = _image_backbone(settings, classes, image_size)
    else:
        backbone = _text_backbone(settings, classes, tokenizer)
    optics = _optics(settings, backbone, image_size)
    return kind(backbone, settings.arch, classes, settings.width, unit=unit, optics=optics)


def _optics(settings: LearnerSettings, backbone: Any, image_size: int) -> Optics | None:
    """How given weights want to see pictures."""
    given = settings.pretrained
    if not given or settings.arch not in ("vit", "beit", "resnet"):
        return None
    side = getattr(backbone.config, "image_size", image_size)
    return read_optics(placed(given), side if isinstance(side, int) else side[0], **hub_arguments(given))


def _gru(settings: LearnerSettings, classes: int, tokenizer: Any) -> Any:
    from fedloom.models.gru import build_gru  # makes the class known to transformers' Auto classes
    from fedloom.models.vectors import is_vectors

    if settings.pretrained and not is_vectors(settings.pretrained):
        return _pretrained(settings, classes)
    return build_gru(settings, classes, tokenizer)


def _pretrained(settings: LearnerSettings, classes: int) -> Any:
    import transformers as hf

    auto = hf.AutoModelForImageClassification
    if settings.arch in ("bert", "distilbert", "roberta", "gru"):
        auto = hf.AutoModelForSequenceClassification
    kind = {"gru": "fedloom-gru", "audio-resnet": "resnet"}.get(settings.arch, settings.arch)
    what, more = f"{settings.arch}: pretrained =", {"num_labels": classes, "ignore_mismatched_sizes": True}
    model = load_given(what, settings.pretrained or "", auto, **more)
    if model.config.model_type != kind:
        raise BadInput(f"{settings.pretrained} holds a {model.config.model_type}, not a {settings.arch}")
    return model


def _image_backbone(s: LearnerSettings, classes: int, size: int) -> Any:
    import transformers as hf

    if s.arch in ("resnet", "audio-resnet"):
        widths = [s.hidden // 2**halvings for halvings in reversed(range(len(s.stages)))]
        config = hf.ResNetConfig(
            num_channels=3 if s.arch == "resnet" else 1,
            embedding_size=widths[0],
            hidden_sizes=widths,
            depths=list(s.stages),
            layer_type="basic",
            num_labels=classes,
        )
        return hf.ResNetForImageClassification(config)
    if size % s.patch:
        raise BadInput(f"{s.arch}: patch {s.patch} does not divide the picture's side {size}")
    shape = {
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": 2 * s.hidden,
        "image_size": size,
        "patch_size": s.patch,
        "num_labels": classes,
    }
    if s.arch == "vit":
        return hf.ViTForImageClassification(hf.ViTConfig(**shape))
    config = hf.BeitConfig(
        **shape, use_absolute_position_embeddings=True, use_mask_token=False, drop_path_rate=0.0
    )
    return hf.BeitForImageClassification(config)


def _text_backbone(s: LearnerSettings, classes: int, tokenizer: Any) -> Any:
    import transformers as hf

    if tokenizer is None:
        raise BadInput(f"{s.arch} needs a tokenizer, or `pretrained` weights that bring their own")
    length, ids = tokenizer.model_max_length, {"pad_token_id": tokenizer.pad_token_id, "num_labels": classes}
    if s.arch == "distilbert":
        config = hf.DistilBertConfig(
            vocab_size=len(tokenizer),
            dim=s.hidden,
            n_layers=s.layers,
            n_heads=s.heads,
            hidden_dim=2 * s.hidden,
            max_position_embeddings=length,
            **ids,
        )
        return hf.DistilBertForSequenceClassification(config)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": 2 * s.hidden,
    }
    if s.arch == "bert":
        return hf.BertForSequenceClassification(hf.BertConfig(**shape, max_position_embeddings=length, **ids))
    config = hf.RobertaConfig(
        **shape, max_position_embeddings=length + TEXT_LENGTH_MARGIN, type_vocab_size=1, **ids
    )
    return hf.RobertaForSequenceClassification(config)
