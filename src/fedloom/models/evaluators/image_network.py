"""An image model of transformers as what looks at pictures: a classifier of any kind, or a bare backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.models.clients.preprocessing import ImagePreprocessor, read_preprocessor
from fedloom.models.evaluators.feature_extractor import FeatureExtractor
from fedloom.models.pretrained import pretrained_config, pretrained_model
from fedloom.weights import hub_arguments, placed

_SIDE = 224  # of a model that names none


class ImageNetwork(FeatureExtractor):
    """A backbone and, of a classifier, the linear layer that was its last: features are what enters that.

    Args:
        backbone: without its last layer, where it is a classifier.
        head: that layer, or None.
        preprocessor: how it wants to see pictures.
        name: what people know it by.
    """

    batch = 64

    def __init__(self, backbone: nn.Module, head: nn.Linear | None, preprocessor: ImagePreprocessor, name: str) -> None:
        super().__init__()
        self.backbone, self.head, self.preprocessor, self.name = backbone, head, preprocessor, name

    def features(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1], any side, to (B, F)."""
        pixels = self.preprocessor(images)
        if self.head is None and hasattr(self.backbone, "get_image_features"):  # CLIP and its like
            clip: Any = self.backbone
            seen = clip.get_image_features(pixel_values=pixels)
            return seen if isinstance(seen, Tensor) else _pooled(seen)
        out: Any = self.backbone(pixel_values=pixels)
        return _pooled(out) if self.head is None else out.logits

    def logits(self, features: Tensor) -> Tensor | None:
        """Features (B, F) to logits (B, C); None without a head."""
        return None if self.head is None else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits = self.logits(self.features(images))
        assert logits is not None
        return logits


def _pooled(output: Any) -> Tensor:
    """What the model itself pools to, else the mean over positions: (B, F)."""
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        last: Tensor = output.last_hidden_state
        pooled = last.flatten(2).mean(2) if last.ndim == 4 else last.mean(1)  # (B, F, h, w) or (B, L, F)
    return torch.flatten(pooled, 1)


def load_backbone(what: str, name: str | Path, side: int | None = None) -> ImageNetwork:
    """The image model in a folder or of a hub name: with its classifier where it has one, else bare.

    side: pixels at which a classifier sees pictures; None: what its folder says.

    Raises:
        BadInput: it cannot be loaded, or is no image model, or is bound to another side.
    """
    from transformers import AutoModel

    config = pretrained_config(what, name)
    if any(str(a).endswith("ForImageClassification") for a in config.architectures or ()):
        return load_classifier(what, name, None, side)
    if side is not None:
        raise BadInput(f"{what}.side = {side}: a {config.model_type} without classifier sees its own, allowed: null")
    backbone = pretrained_model(what, name, AutoModel)
    if backbone.main_input_name != "pixel_values" and not hasattr(backbone, "get_image_features"):
        raise BadInput(f"{what} {name}: a {config.model_type} reads no pictures")
    return ImageNetwork(backbone, None, _preprocessor(name, config), _called(name, config))


def load_classifier(what: str, name: str | Path, classes: int | None, side: int | None = None) -> ImageNetwork:
    """The image classifier in a folder or of a hub name.

    Args:
        classes: C, of a new last layer; None keeps the one that is there. Draws from torch's global stream.
        side: pixels at which it sees pictures; None: what its folder says.

    Raises:
        BadInput: it cannot be loaded, its last layer is not linear, or it is bound to another side.
    """
    from transformers import AutoModelForImageClassification

    config = pretrained_config(what, name)
    more: dict[str, Any] = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
    fresh = () if classes is None else ("classifier", "head")
    model = pretrained_model(what, name, AutoModelForImageClassification, fresh=fresh, **more)
    last = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1:]
    if not last or last[0][1].out_features != model.config.num_labels:
        raise BadInput(f"{what} {name}: a {config.model_type} whose last layer is not linear cannot be used")
    where, head = last[0]
    model.set_submodule(where, nn.Identity())
    looks = _preprocessor(name, config)
    if side is None:
        return ImageNetwork(model, head, looks, _called(name, config))
    found = ImageNetwork(model, head, replace(looks, side=side, resized=side), _called(name, config))
    try:
        with torch.no_grad():
            found.eval().features(torch.zeros(1, 3, side, side))
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{what}.side = {side}: a {config.model_type} does not see pictures of it: {error}") from None
    return found


def _preprocessor(name: str | Path, config: Any) -> ImagePreprocessor:
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", None) or _SIDE
    return read_preprocessor(placed(str(name)), int(side), **hub_arguments(str(name)))


def _called(name: str | Path, config: Any) -> str:
    return f"{config.model_type} ({Path(name).name})"
