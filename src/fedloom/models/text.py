"""Tokenizers: a word-piece vocabulary learned from public texts, or a pretrained one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fedloom.errors import BadInput

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(corpus: Sequence[str], vocabulary: int = 1000, length: int = 32) -> Any:
    """A lower-casing word-piece tokenizer of at most `vocabulary` entries; `length` is the longest row in tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if not corpus:
        raise BadInput("cannot learn a vocabulary from 0 texts")
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg, unused-ignore]
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False, min_frequency=2
    )
    pieces.train_from_iterator(corpus, trainer)
    pieces.decoder = decoders.WordPiece()  # or captions would read `re ##d`
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=length,
    )


def tokenize(tokenizer: Any, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 (B, L), padded to the tokenizer's full length.

    One fixed length keeps results independent of which texts share a batch.
    """
    rows = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}
