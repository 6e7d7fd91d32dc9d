"""A bidirectional GRU over word embeddings with attention pooling; the network is in `gru_network`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.errors import BadInput
from fedloom.models.clients.spec import ClientModelSpec, DataShape
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings


def _check(s: ModelSettings) -> None:
    if s.hidden % 2:
        raise ValueError(f"gru: hidden = {s.hidden}: two directions share it, so it must be even")


def _backbone(s: ModelSettings, data: DataShape) -> Any:
    """A gru from an exported folder; or a new one, its embeddings random or those of a file of word vectors.

    With word vectors the token ids are those of `vectors.vocabulary`, else those of the tokenizer.

    Raises:
        BadInput: a broken file of vectors, or neither vectors nor tokenizer.
    """
    import torch

    from fedloom.models.clients.build import pretrained_backbone
    from fedloom.models.clients.gru_network import GruConfig, GruForSequenceClassification
    from fedloom.models.clients.vectors import embedding_rows, is_vectors, load_vectors

    sizes = {"hidden_size": s.hidden, "num_hidden_layers": s.layers, "num_labels": data.classes}
    if s.pretrained and not is_vectors(s.pretrained):
        return pretrained_backbone(SPEC, GruForSequenceClassification, s.pretrained, data.classes)
    if s.pretrained:
        rows = torch.from_numpy(embedding_rows(*load_vectors(s.pretrained)))
        model = GruForSequenceClassification(GruConfig(vocab_size=len(rows), embedding_size=rows.shape[1], **sizes))
        with torch.no_grad():
            model.embedding.weight.copy_(rows)
        return model
    if (words := data.tokenizer) is None:
        raise BadInput("gru needs a tokenizer, or `pretrained` weights or word vectors that bring their own")
    own = {"vocab_size": len(words), "embedding_size": s.hidden, "pad_token_id": words.pad_token_id}
    return GruForSequenceClassification(GruConfig(**own, **sizes))


def gru_tokenizer(pretrained: str, tokens: int) -> Any:
    """The tokenizer that belongs to a gru's `pretrained`.

    Args:
        pretrained: a folder of an exported gru, which has its own, or a file of word vectors.
        tokens: the longest row in tokens, where the file does not say.

    Raises:
        BadInput: it is neither, or the folder has no tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    from fedloom.models.clients.vectors import is_vectors, load_vectors, vector_tokenizer

    if is_vectors(pretrained):
        return vector_tokenizer(load_vectors(pretrained)[0], tokens)
    if not (Path(pretrained) / "tokenizer.json").is_file():
        raise BadInput(f"gru: pretrained = {pretrained!r}: no tokenizer.json in this folder")
    return PreTrainedTokenizerFast.from_pretrained(pretrained)


def _flops(backbone: Any, tokens: int) -> tuple[float, float]:
    """Two operations a weight and token: packed rows have no shape on the meta device."""
    work = sum(2.0 * p.numel() * tokens for p in backbone.gru.parameters())
    return work, 32.0 * tokens * backbone.config.hidden_size


SPEC = ClientModelSpec(
    name="gru",
    modality=Modality.TEXT,
    backbone=_backbone,
    model_type="fedloom-gru",
    tokenizer=gru_tokenizer,
    check=_check,
    tune=("all",),
    local=True,
    flops=_flops,
    library="fedloom.models.clients.gru_network.GruForSequenceClassification",
    weights="tiny from a configuration, or pretrained: folder or file of word vectors",
)
