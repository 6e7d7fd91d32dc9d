"""A linear classifier on a model of transformers that has none of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.runs.disk import read_object

HOW = "logits = weight @ p + bias, p being the pooled output of this folder's model, or the mean of its hidden states"
MEAN = "logits = weight @ p + bias, p being the mean of the hidden states of this folder's model, without padding"
POOLING = "1_Pooling/config.json"  # of sentence-transformers
_MODE = "pooling_mode_"


class Pooled(nn.Module):
    """logits = classifier(p): p (B, F) is the model's pooled output where it has one, else the mean of its last hidden
    states over positions, without padding.

    mean: the mean, also where there is a pooled output, as models of sentence-transformers were trained.
    """

    def __init__(self, model: Any, classes: int, mean: bool = False) -> None:
        super().__init__()
        self.model, self.config, self.mean = model, model.config, mean
        self.config.num_labels = classes
        width = getattr(self.config, "hidden_size", None) or (getattr(self.config, "hidden_sizes", None) or [0])[-1]
        if not width:
            raise BadInput(f"a {self.config.model_type} does not say how wide its features are (hidden_size)")
        self.classifier: nn.Module = nn.Linear(width, classes)

    @property
    def base_model(self) -> Any:
        """As transformers calls what is not the classifier."""
        return self.model

    def forward(self, **inputs: Tensor) -> Any:
        """An output with `logits` (B, C)."""
        out = self.model(**inputs)
        pooled = None if self.mean else getattr(out, "pooler_output", None)
        if pooled is None:
            h = out.last_hidden_state  # (B, L, F), or maps (B, F, H, W)
            if h.ndim == 4:
                pooled = h.mean((2, 3))
            elif "attention_mask" in inputs:
                mask = inputs["attention_mask"][..., None].to(h.dtype)
                pooled = (h * mask).sum(1) / mask.sum(1).clamp(min=1)
            else:
                pooled = h.mean(1)
        return SimpleNamespace(logits=self.classifier(pooled.flatten(1)))

    @torch.no_grad()
    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as transformers does, and its classifier beside it: head.safetensors, head.json."""
        from safetensors.torch import save_file

        self.model.save_pretrained(folder)
        tensors = {name: value.contiguous() for name, value in self.classifier.state_dict().items()}
        save_file(tensors, Path(folder) / "head.safetensors")
        about = {"classes": list(self.config.id2label.values()), "how": MEAN if self.mean else HOW}
        (Path(folder) / "head.json").write_text(json.dumps(about, indent=2) + "\n")
        if self.mean:
            file = Path(folder) / POOLING
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({_MODE + "mean_tokens": True}) + "\n")


def pools_by_mean(folder: str | Path) -> bool:
    """Whether a folder says, as sentence-transformers does, that a text is the mean of its tokens and nothing else.

    Raises:
        FedloomError: the file is no JSON.
    """
    file = Path(folder) / POOLING
    if not file.is_file():
        return False
    said = read_object(file)
    return [k for k, v in said.items() if k.startswith(_MODE) and v is True] == [f"{_MODE}mean_tokens"]
