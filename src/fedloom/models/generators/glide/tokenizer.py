"""GLIDE's byte-pair tokens, built from a merges file of its release (`vocab.bpe`, plain or .gz); none is shipped.

Its vocabulary follows from the merges: first the 256 bytes, then one token a merge in order, last the end token,
which is also what pads. No token begins or ends a text.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedloom.errors import BadInput

END = "<|endoftext|>"
LENGTH = 128  # tokens of a text


def byte_letters() -> list[str]:
    """The letter that stands for each byte, in the vocabulary's order: those that print come first, as themselves."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printing)
    return [chr(n) for n in [*printing, *range(256, 256 + others)]]


def read_merges(path: str | Path) -> list[tuple[str, str]]:
    """The merges of a file: a line of heading ("#version"), then two pieces a line, the most frequent first."""
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = raw.decode("utf-8").split("\n")
    except FileNotFoundError:
        raise BadInput(f"vocabulary {path}: no such file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"vocabulary {path}: cannot be read: {error}") from None
    known, merges = set(byte_letters()), []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        pieces = line.split()
        if len(pieces) != 2 or not known.issuperset(pieces):
            raise BadInput(
                f"vocabulary {path}, line {number}: {line[:40]!r} does not merge two pieces that are known by then"
            )
        known.add("".join(pieces))
        merges.append((pieces[0], pieces[1]))
    if len(known) != 256 + len(merges):
        raise BadInput(f"vocabulary {path}: two of its merges make the same piece")
    return merges


def build_tokenizer(path: str | Path, length: int = LENGTH) -> Any:
    """A `PreTrainedTokenizerFast` from a merges file; `length` tokens are kept of a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = read_merges(path)
    pieces = [*byte_letters(), *("".join(pair) for pair in merges), END]
    bytepair = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    bytepair.normalizer = normalizers.Lowercase()
    bytepair.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytepair.decoder = decoders.ByteLevel()
    # A text may hold the end token's letters: they are letters there.
    return PreTrainedTokenizerFast(
        tokenizer_object=bytepair,
        pad_token=END,
        eos_token=END,
        model_max_length=length,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """B texts to ids int64 (B, L) and a mask bool (B, L) that is False at padding; what is longer is cut off.

    Lower case is made here: a word's last sigma depends on the word, and the tokenizer's own lowering sees letters.
    """
    rows = tokenizer(
        [text.lower() for text in texts],
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return rows["input_ids"].to(torch.int64), rows["attention_mask"].bool()
