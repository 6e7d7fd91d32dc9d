"""What captioner and CLIP have in common: a model of transformers with its tokenizer, loaded, built and saved alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from fedloom.config.models import CaptionerSettings, ClipSettings
from fedloom.models.clients.preprocessing import ImagePreprocessor, read_preprocessor
from fedloom.models.pretrained import load_pretrained, pretrained_config, pretrained_model
from fedloom.weights import hub_arguments, placed


class TokenizedModel(nn.Module):
    """A model that reads pictures and texts.

    Args:
        model, tokenizer: as transformers has them.
        preprocessor: how the model wants to see pictures; None: at its side, from -1 to 1.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocessor: ImagePreprocessor | None = None) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.size: int = model.config.vision_config.image_size
        self.preprocessor = preprocessor or ImagePreprocessor(self.size, self.size)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as a transformers folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_parts(what: str, source: str | Path, model_type: str, kind: Any) -> tuple[Any, Any, ImagePreprocessor]:
    """Model, tokenizer and preprocessing of a folder or hub name. BadInput where it holds no such model."""
    from transformers import AutoTokenizer

    pretrained_config(what, source, (model_type,))
    model = pretrained_model(what, source, kind)
    tokenizer = load_pretrained(what, source, AutoTokenizer)
    side = model.config.vision_config.image_size
    return model, tokenizer, read_preprocessor(placed(str(source)), side, **hub_arguments(str(source)))


def tiny_configs(
    settings: ClipSettings | CaptionerSettings, tokenizer: Any, image_size: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configurations of a text and a vision tower of these sizes."""
    tower = {
        "hidden_size": settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": 2 * settings.hidden,
    }
    tokens = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    text = tower | tokens | {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    return text, {**tower, "image_size": image_size, "patch_size": settings.patch}
