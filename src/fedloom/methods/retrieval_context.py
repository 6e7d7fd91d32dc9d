"""A site that holds pairs of picture and text, and whose task is to find the one by the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedloom.data.pairs import ImageTextPairs
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.metrics.retrieval import TERMS, Recalls, recalls
from fedloom.models.clients.dual_encoder import IMAGE_INPUTS, TEXT_FEATURES, TEXT_INPUTS
from fedloom.tasks import Modality


class RetrievalContext(ClientContext):
    """Its model is a `models.dual.Dual`; a sample of its private data is a caption with its picture.

    fold: pictures of a fold in the second of the two scores; None: only the whole gallery is scored.
    """

    def __init__(self, *, fold: int | None = None, **context: Any) -> None:
        self.fold = fold
        super().__init__(**context)

    def take(self, private: ImageTextPairs, test: ImageTextPairs) -> None:
        """Captions with the numbers of their pictures; every picture is held once."""
        self.samples = {"private": private, "test": test}
        self.pictures = self.stored(private.images)
        owner = torch.from_numpy(private.owner.astype(np.int64))
        self.private = {**self.stored(private.captions), "picture": owner}
        self.private_labels = torch.zeros(len(owner), dtype=torch.int64)
        self.test = {**self.stored(test.images), **self.stored(test.captions)}
        self.test_labels = torch.zeros(len(test), dtype=torch.int64)

    def _tower(self, raw: Inputs) -> Any:
        return getattr(self.model, "image" if "pixel_values" in raw else "text")

    def _seen(self, raw: Inputs, features: Callable[[Any, Inputs], Tensor] | None = None) -> Inputs:
        """As of other clients; what a frozen text tower makes of texts has a name of its own."""
        seen = super()._seen(raw, features)
        return {TEXT_FEATURES: seen["features"]} if "input_ids" in raw and "features" in seen else seen

    def views(self, inputs: Inputs, draws: torch.Generator) -> Inputs:
        """Training views of both; pictures that are named by number are looked up."""
        seen = dict(inputs)
        if "picture" in seen:
            seen |= rows(self.pictures, seen.pop("picture"))
        return super().views(seen, draws)

    def encode(self, inputs: Inputs, batch: int = 256) -> Tensor:
        """Of pictures, of texts, or of both: then pictures first, texts behind them."""
        kinds = [part for m in (Modality.IMAGE, Modality.TEXT) if (part := of_kind(inputs, m))]
        return torch.cat([super(RetrievalContext, self).encode(part, batch) for part in kinds])

    def score(self, z: Tensor) -> dict[str, Any]:
        """Recalls, of representations of the test pictures and, behind them, their captions."""
        pairs: ImageTextPairs = self.samples["test"]
        found = [scored(z, pairs, None)]
        if self.fold is not None and self.fold < len(pairs):
            found.append(scored(z, pairs, self.fold))
        whole, *folds = found
        more = {"folded": figures(folds[0]), "fold": self.fold} if folds else {}
        return {"accuracy": whole.total() / 2, "samples": len(pairs), "recalls": figures(whole), **more}

    def task_loss(self, inputs: Inputs, index: Tensor) -> Tensor:
        """Matching of the batch's pictures and captions, a sample's share (FedAFD's image-text clients)."""
        model: Any = self.model
        images, texts = (model.encode(**of_kind(inputs, m)) for m in (Modality.IMAGE, Modality.TEXT))
        return self.match(images, texts)

    def match(self, images: Tensor, texts: Tensor) -> Tensor:
        """Matching loss of paired rows (B, D), divided by B, so that it does not outgrow what it is added to."""
        loss: Tensor = self.model.matching(images, texts)  # type: ignore[operator]
        return loss / len(images)


def of_kind(inputs: Inputs, modality: Modality) -> Inputs:
    """The inputs of that modality alone."""
    kinds = IMAGE_INPUTS if modality == Modality.IMAGE else TEXT_INPUTS
    return {key: inputs[key] for key in kinds if key in inputs}


def scored(z: Tensor, pairs: ImageTextPairs, fold: int | None) -> Recalls:
    """Recalls of representations of pictures and, behind them, captions; a row that is not finite finds nothing."""
    rows = torch.where(torch.isfinite(z).all(1, keepdim=True), z, torch.zeros(()))
    return recalls(rows[: len(pairs)], rows[len(pairs) :], pairs.owner, fold=fold)


def figures(found: Recalls) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The six, in the order of `TERMS`."""
    return np.array([getattr(found, term) for term in TERMS])
