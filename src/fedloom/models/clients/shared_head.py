"""A model of both modalities: a picture tower and a text tower under one head. A client has inputs of one of them.

What methods need that exchange parameters between clients of different modalities (LoRA-FL, Bias-FL, FedDAT). Where the
originals take ViLT, this takes a ViT and a BERT: both have pretrained weights everywhere, and an absent modality costs
one blank sample a batch.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.models.clients.client_model import Classifier


class SharedHeadModel(Classifier):
    """z = (z_picture + z_text) / 2; the absent one is of a blank: a grey picture, a text without words.

    Args:
        image, text: models (`fedloom.models.clients.client_model.ClientModel`) of one width, whose heads are taken off.
        blanks: inputs of one blank picture and one blank text, by the names that the towers take them under.
        classes: C.
        width: D.
    """

    def __init__(
        self,
        image: nn.Module,
        text: nn.Module,
        blanks: tuple[dict[str, Tensor], dict[str, Tensor]],
        classes: int,
    ) -> None:
        super().__init__()
        head: Any = image.head
        self.image, self.text, self._blanks = image, text, blanks
        self.image.head, self.text.head = nn.Identity(), nn.Identity()
        self.head = nn.Linear(head.in_features, classes)

    def encode(self, **inputs: Tensor) -> Tensor:
        """Representations z (B, D) of pixel_values (B, 3, H, W), or of input_ids and attention_mask (B, L)."""
        blank_picture, blank_text = self._blanks
        pictures, texts = (inputs, blank_text) if "pixel_values" in inputs else (blank_picture, inputs)
        z: Tensor = (self.image.encode(**pictures) + self.text.encode(**texts)) / 2  # type: ignore[operator]
        return z

    @torch.no_grad()
    def export(self, folder: Path, class_names: tuple[str, ...]) -> None:
        """Write `folder/image` and `folder/text`, stock transformers folders that give this model's logits.

        The head is linear and the blank's part of z is constant, so that it goes into the bias.
        """
        head: Any = self.head
        z_picture, z_text = (
            tower.encode(**blank)  # type: ignore[operator]
            for tower, blank in zip((self.image, self.text), self._blanks)
        )
        for name, tower, other in (("image", self.image, z_text), ("text", self.text, z_picture)):
            alone: Any = copy.deepcopy(tower)
            alone.head = nn.Linear(head.in_features, head.out_features)
            alone.head.weight.copy_(head.weight / 2)
            alone.head.bias.copy_(head.bias + head.weight @ other[0] / 2)
            alone.export(folder / name, class_names)
