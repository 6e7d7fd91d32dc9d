"""Tokenizers: a word-piece vocabulary learned from public texts, or a pretrained one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from fedloom.errors import BadInput

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(corpus: Sequence[str], vocabulary: int = 1000, length: int = 32) -> Any:
    """A lower-casing word-piece tokenizer of at most `vocabulary` entries; `length` is the longest row in tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if not corpus:
        raise BadInput("cannot learn a vocabulary from 0 texts")
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in corpus for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    # The library's own trainer breaks ties in an order that changes from process to process, and with the ids
    # everything that is trained on them. Whole words by frequency, and letters for the rest, do not.
    letters = sorted({letter for word in counts for letter in word})
    words = [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 1 and len(w) > 1]
    entries = dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words])
    vocabulary_ids = {entry: n for n, entry in enumerate(list(entries)[:vocabulary])}
    pieces = Tokenizer(models.WordPiece(vocabulary_ids, unk_token="[UNK]"))
    pieces.normalizer = normalizer
    pieces.pre_tokenizer = splitter
    pieces.decoder = decoders.WordPiece()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return wrapped(pieces, length)


def wrapped(pieces: Any, length: int) -> Any:
    """A transformers tokenizer with BERT's special tokens around one of `tokenizers`; rows of up to `length`."""
    from transformers import PreTrainedTokenizerFast

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
    if not len(texts):  # a tokenizer cannot say how wide nothing is
        empty = torch.zeros(0, tokenizer.model_max_length, dtype=torch.int64)
        return {"input_ids": empty, "attention_mask": empty}
    rows = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}


def own_lengths(mask: torch.Tensor) -> torch.Tensor:
    """To how many tokens each text is worth reading: the smallest of 8, 16, 32, ... that holds it, at most L.

    It depends on that text alone, so what it is read as does not depend on which texts share a batch.

    Args:
        mask: attention mask, int (B, L), B at least 1; texts begin on the left.

    Returns:
        int64 (B,).
    """
    full = mask.shape[1]
    last = (mask.bool() * torch.arange(1, full + 1, device=mask.device)).amax(dim=1)
    steps = torch.tensor([8 << i for i in range(max(full.bit_length() - 2, 1))], device=mask.device)
    return steps[torch.bucketize(last, steps)].clamp(max=full)
