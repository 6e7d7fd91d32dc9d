"""A captioner that is not trained: the caption of a public picture that looks alike.

Of several look-alikes it says the consensus caption, the one that has most in common with the others' (Devlin et al.,
"Exploring nearest neighbor approaches for image captioning", arXiv 1505.04467, with tf-idf similarity of words).
It says nothing that nobody wrote, and cannot collapse to a few sentences, as a small BLIP trained on hundreds of
pictures does; it cannot describe what the public part does not show either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedloom.config.models import CaptionerSettings
from fedloom.data.containers import PublicData
from fedloom.models.device import CPU
from fedloom.models.evaluators.feature_extractor import FeatureExtractor
from fedloom.models.evaluators.image_network import load_backbone

_WHAT = "server.captioner.retrieve"


class RetrievalCaptioner:
    """Captions by nearest neighbours.

    Args:
        network: what pictures are compared by.
        known: its features of the public pictures, float (N, F), of length 1.
        captions: theirs, N.
        neighbours: public pictures that a picture is compared with; 1: the nearest one's caption is taken.
    """

    def __init__(self, network: FeatureExtractor, known: Tensor, captions: Sequence[str], neighbours: int = 1) -> None:
        self.network, self.known, self.captions = network, known, tuple(captions)
        self.neighbours = min(neighbours, len(self.captions))

    def caption(self, images: NDArray[np.uint8], batch: int | None = None) -> tuple[str, ...]:
        """uint8 (N, H, W, 3), of any side, to N captions; of equally near public pictures the first one's."""
        if not len(images):
            return ()
        alike = features_of(self.network, images, batch) @ self.known.T  # (N, public)
        if self.neighbours == 1:
            return tuple(self.captions[i] for i in alike.argmax(1).tolist())
        near = alike.topk(self.neighbours, dim=1).indices.numpy()  # nearest first
        return tuple(self.captions[own[self._consensus(own)]] for own in near)

    def _consensus(self, near: NDArray[np.int64]) -> int:
        """The place of the caption most similar to all others of `near`; of equals the nearest picture's."""
        words = self._words[near]
        return int(np.asarray((words @ words.T).sum(axis=1)).ravel().round(6).argmax())

    @cached_property
    def _words(self) -> Any:
        """A sparse row of unit length for each public caption: tf-idf of its words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(self.captions)

    def save(self, folder: Path) -> None:
        """Write features and captions; the network is not written."""
        save_file({"features": self.known.contiguous()}, folder / "known.safetensors")
        (folder / "captions.json").write_text(json.dumps(self.captions), encoding="utf-8")


def features_of(network: FeatureExtractor, images: NDArray[np.uint8], batch: int | None = None) -> Tensor:
    """uint8 (N, H, W, 3) to features (N, F) of length 1, on the CPU."""
    return F.normalize(network.look(images, batch)[0].float(), dim=1)


def build_retrieval(settings: CaptionerSettings, public: PublicData, device: torch.device = CPU) -> RetrievalCaptioner:
    """A captioner of a public part's captions, `settings.retrieve` being the image model.

    Raises:
        BadInput: that cannot be loaded, or does not see pictures of `settings.side` pixels.
    """
    network = _network(settings, device)
    return RetrievalCaptioner(network, features_of(network, public.images), public.captions, settings.neighbours)


def load_retrieval(settings: CaptionerSettings, folder: Path, device: torch.device = CPU) -> RetrievalCaptioner:
    """The captioner that was saved in `folder`. Raises BadInput as `build_retrieval`."""
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    known = load_file(folder / "known.safetensors")["features"]
    return RetrievalCaptioner(_network(settings, device), known, captions, settings.neighbours)


def _network(settings: CaptionerSettings, device: torch.device) -> FeatureExtractor:
    assert settings.retrieve is not None
    return load_backbone(_WHAT, settings.retrieve, settings.side).eval().requires_grad_(False).to(device)
