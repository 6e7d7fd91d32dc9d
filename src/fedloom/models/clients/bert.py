"""BERT and its relatives: transformers of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.models.clients.spec import ClientModelSpec, DataShape, check_heads
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings

ROBERTA_OFFSET = 2  # RoBERTa counts positions from padding_idx + 1


def _sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    return {
        "vocab_size": len(data.tokenizer),
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": 2 * s.hidden,
        "max_position_embeddings": data.tokenizer.model_max_length,
        "pad_token_id": data.tokenizer.pad_token_id,
    }


def _roberta_sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    length = data.tokenizer.model_max_length + ROBERTA_OFFSET
    return _sizes(s, data) | {"max_position_embeddings": length, "type_vocab_size": 1}


def _albert_sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    return _sizes(s, data) | {"embedding_size": s.hidden}


def _distilbert_sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    names = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
    return {names.get(key, key): value for key, value in _sizes(s, data).items()}


_COMMON: dict[str, Any] = {"modality": Modality.TEXT, "check": check_heads}
BERT = ClientModelSpec(name="bert", network="Bert", sizes=_sizes, **_COMMON)
ROBERTA = ClientModelSpec(
    name="roberta", network="Roberta", sizes=_roberta_sizes, head="classifier.out_proj", **_COMMON
)
DISTILBERT = ClientModelSpec(name="distilbert", network="DistilBert", sizes=_distilbert_sizes, **_COMMON)
ALBERT = ClientModelSpec(name="albert", network="Albert", sizes=_albert_sizes, **_COMMON)
