"""The text model of PVSE, PCME, CreamFL and FedAFD as a transformers class: bidirectional GRU and attention pooling.

PIE-Net after Song and Soleymani (arXiv 1906.04402) with one head. With this module imported, transformers' Auto classes
know the model, so that `AutoModelForSequenceClassification.from_pretrained(folder)` loads an exported one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

_README = """A text classifier: a bidirectional GRU over word embeddings with attention pooling.
transformers does not know this model by itself. `import fedloom.models.clients.gru_network` first; then
`AutoModelForSequenceClassification.from_pretrained(THIS_FOLDER)` loads it.
"""


class GruConfig(PretrainedConfig):  # type: ignore[misc]
    """Sizes: embeddings (vocab_size, embedding_size), `num_hidden_layers` layers of hidden_size / 2 units each way."""

    model_type = "fedloom-gru"

    def __init__(
        self,
        vocab_size: int = 1000,
        embedding_size: int = 300,
        hidden_size: int = 256,
        num_hidden_layers: int = 1,
        dropout: float = 0.1,
        pad_token_id: int = 0,
        **more: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.dropout = dropout
        super().__init__(pad_token_id=pad_token_id, **more)


class GruForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """classifier(LayerNorm(h + sigmoid(W a))): h the GRU's last states, a the attention-pooled embeddings.

    Padding comes after the words. It never enters: the GRU ends at the last word in either direction, and attention
    has no weight on it.
    """

    config_class = GruConfig
    main_input_name = "input_ids"

    def __init__(self, config: GruConfig) -> None:
        super().__init__(config)
        own, hidden, layers = config.embedding_size, config.hidden_size, config.num_hidden_layers
        self.embedding = nn.Embedding(config.vocab_size, own, padding_idx=config.pad_token_id)
        self.gru = nn.GRU(
            own,
            hidden // 2,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if layers > 1 else 0.0,
        )
        inner = max(own // 2, 1)
        self.attention = nn.Sequential(nn.Linear(own, inner, bias=False), nn.Tanh(), nn.Linear(inner, 1, bias=False))
        self.gate = nn.Linear(own, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(hidden)
        self.classifier = nn.Linear(hidden, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            bound = module.hidden_size**-0.5
            for weights in module.parameters():
                init.uniform_(weights, -bound, bound)
        else:
            super()._init_weights(module)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> SequenceClassifierOutput:
        """Logits (B, C) of token ids (B, L) and which of them are words (B, L), else all that are not padding."""
        if attention_mask is None:
            attention_mask = input_ids != self.config.pad_token_id
        return SequenceClassifierOutput(logits=self.classifier(self._pooled(input_ids, attention_mask)))

    def _pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        e = self.embedding(ids)  # (B, L, E)
        if not len(ids):  # the GRU takes no empty batch
            return torch.zeros(0, self.config.hidden_size, device=e.device, dtype=e.dtype)
        lengths = mask.sum(1).clamp(min=1)  # of a row without words, the first padding counts as one
        packed = pack_padded_sequence(e, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed)  # (2 layers, B, H / 2)
        h = torch.cat([last[-2], last[-1]], 1)  # (B, H), both directions of the last layer
        there = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        weights = self.attention(e).squeeze(-1).masked_fill(~there, -torch.inf).softmax(1)  # (B, L)
        attended = torch.einsum("bl,ble->be", weights, e)
        pooled: Tensor = self.norm(h + self.dropout(self.gate(attended).sigmoid()))
        return pooled

    def save_pretrained(self, save_directory: str | Path, **more: Any) -> None:
        """As every transformers model, with a word on how it is loaded."""
        super().save_pretrained(save_directory, **more)
        (Path(save_directory) / "README.md").write_text(_README)


AutoConfig.register(GruConfig.model_type, GruConfig, exist_ok=True)
AutoModelForSequenceClassification.register(GruConfig, GruForSequenceClassification, exist_ok=True)
