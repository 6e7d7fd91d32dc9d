"""A dual encoder: a picture tower and a text tower side by side, for clients that retrieve one by the other.

FedAFD's and CreamFL's multimodal clients (arXiv 2603.04890, 2302.08888). No head: rows of length 1 are compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fedloom.functional.matching import PairMatching
from fedloom.functional.norms import unit

IMAGE_INPUTS = ("pixel_values", "features")
TEXT_FEATURES = "text_features"  # of a frozen text tower, beside those of pictures
TEXT_INPUTS = ("input_ids", "attention_mask", TEXT_FEATURES)


class DualEncoder(nn.Module):
    """Rows (B, D) of length 1, of pictures or of texts.

    Args:
        image, text: models of one modality and one width without `unit`, whose heads are taken off.

    Attributes:
        width: D.
        matching: the loss of paired rows, with its two learnable numbers.
    """

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        if image.width != text.width:
            raise ValueError(f"pictures' rows of width {image.width}, texts' of {text.width}: expected one width")
        self.image, self.text = image, text
        self.width: int = image.width  # type: ignore[assignment]
        self.image.head, self.text.head = nn.Identity(), nn.Identity()
        self.matching = PairMatching()

    def encode(self, **inputs: Tensor) -> Tensor:
        """Rows (B, D) of pixel_values (B, 3, H, W), or of input_ids and attention_mask (B, L).

        Of towers that are frozen also of what they made of these: `features` (B, F) of pictures, `text_features`.

        Raises:
            ValueError: inputs of both modalities, or of neither.
        """
        of_pictures = any(name in inputs for name in IMAGE_INPUTS)
        if of_pictures == any(name in inputs for name in TEXT_INPUTS):
            given = ", ".join(sorted(inputs)) or "nothing"
            raise ValueError(f"a dual encoder reads pictures or texts, one at a time: given {given}")
        tower: Any = self.image if of_pictures else self.text
        if TEXT_FEATURES in inputs:
            inputs = {"features": inputs[TEXT_FEATURES]}
        return unit(tower.encode(**inputs))

    def forward(self, **inputs: Tensor) -> Tensor:
        """As `encode`."""
        return self.encode(**inputs)

    def export(self, folder: Path, class_names: tuple[str, ...] = ()) -> None:
        """Write `folder/image` and `folder/text`, whose logits divided by their length are the rows, and matching.json.

        class_names: not read, there are no classes.
        """
        for name, tower in (("image", self.image), ("text", self.text)):
            tower.export_rows(folder / name)  # type: ignore[operator]
        about = {
            "scale": self.matching.scale.item(),
            "shift": self.matching.shift.item(),
            "how": "a pair matches where shift - scale * |x - y| is above 0, x and y being logits / |logits|",
        }
        (folder / "matching.json").write_text(json.dumps(about, indent=2) + "\n")
