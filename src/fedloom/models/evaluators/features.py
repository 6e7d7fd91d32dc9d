"""The feature network of FID and Inception score: FID's Inception-v3 from a file, or an image model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch

from fedloom.errors import BadInput
from fedloom.models.evaluators.feature_extractor import FeatureExtractor
from fedloom.models.evaluators.image_network import load_backbone
from fedloom.models.evaluators.inception import load_inception
from fedloom.models.pretrained import pretrained_config
from fedloom.weights import placed

_WHAT = "evaluation.features"
_ENDINGS = (".pth", ".pt", ".safetensors")


def load_features(name: str, device: torch.device) -> FeatureExtractor:
    """The feature network `name`, on its device, for looking only.

    Args:
        name: a file of Inception-v3's weights, a folder that holds one and no config.json, a folder of transformers, or
            a hub name.

    Raises:
        BadInput: none of these, or it cannot be loaded.
    """
    file = inception_file(name)
    network = load_backbone(_WHAT, name) if file is None else load_inception(file)
    return network.eval().requires_grad_(False).to(device)


def check_features(name: str) -> None:
    """Look at what `name` is before anything is begun. Raises BadInput."""
    if inception_file(name) is None:
        pretrained_config(_WHAT, name)


def inception_file(name: str) -> Path | None:
    """The file of Inception-v3's weights that `name` is or holds; None where it names a model of transformers.

    Raises:
        BadInput: a file of another kind, or a folder with several.
    """
    path = Path(placed(name))
    if path.is_file():
        if path.suffix not in _ENDINGS:
            raise BadInput(f"{_WHAT} {name}: a {path.suffix or 'nameless'} file, allowed: {', '.join(_ENDINGS)}")
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
    if len(files) != 1:
        raise BadInput(
            f"{_WHAT} {name}: holds {len(files)} files of weights and no config.json, expected a folder of "
            "transformers, or one file of Inception-v3"
        )
    return files[0]
