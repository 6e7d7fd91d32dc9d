"""Public backbones: what a client's tiny model starts from, as real clients start from a hub's pretrained weights.

A random model is taught once, on the generic part, which words the caption of a sample holds: from the picture for
image models; for text models from the caption, or from a whole text where there are some, with words hidden. All
architectures read the words off their representation through the same fixed random map, so their spaces begin aligned.
Captions name no class, so neither do backbones know any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedloom.data.captions import telling_words, words_in
from fedloom.data.containers import PublicData
from fedloom.functional.augment import drop_tokens, shift_flip
from fedloom.models.clients.text import tokenize
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import soften, to_float
from fedloom.seeding import global_torch_stream, numpy_stream, torch_stream
from fedloom.tasks import ClientTask

HIDDEN_WORDS = 0.15  # share of a caption's words that a text model must guess from the rest


def word_targets(texts: Sequence[str], words: Sequence[str]) -> Tensor:
    """Which of W words each of N texts holds: float (N, W)."""
    return torch.tensor([[float(word in held) for word in words] for held in map(words_in, texts)])


def pretrain_backbone(
    model: Any,
    modality: ClientTask,
    tokenizer: Any,
    generic: PublicData,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Teach `model.encode` the words of the captions (binary cross-entropy). Its head is left as it is.

    Returns:
        The mean loss, or None where there was nothing to learn: no step, or no word that tells samples apart.
    """
    rng, draws = numpy_stream(seed, "backbone", "batches"), torch_stream(seed, "backbone", "views")
    texts = (*generic.captions, *generic.texts) if modality == ClientTask.TEXT_CLASSIFICATION else generic.captions
    words = telling_words(generic.captions or generic.texts)
    if not words:
        return None
    target = word_targets(texts, words)
    width = model.head.in_features
    reader = torch.randn((width, target.shape[1]), generator=torch_stream(seed, "backbone", "reader"))
    pixels = to_float(generic.images)
    rows = tokenize(tokenizer, texts) if modality == ClientTask.TEXT_CLASSIFICATION else {}

    def objective(index: NDArray[Any]) -> Tensor:
        i = torch.from_numpy(index)
        if modality == ClientTask.IMAGE_CLASSIFICATION:
            z = model.encode(pixel_values=soften(shift_flip(pixels[i], draws), draws))
        else:
            ids, mask = rows["input_ids"][i], rows["attention_mask"][i]
            ids = drop_tokens(ids, mask, HIDDEN_WORDS, draws, tokenizer.unk_token_id)
            z = model.encode(input_ids=ids, attention_mask=mask)
        return F.binary_cross_entropy_with_logits(z @ reader, target[i])

    with global_torch_stream(seed, "backbone", "training"):
        model.train()
        batches = index_batches(len(texts), batch, steps, rng)
        optimizer = adamw((p for name, p in model.named_parameters() if not name.startswith("head.")), rate)
        loss = fit(optimizer, batches, objective, schedule=cosine(steps), name="backbone pretraining", tick=tick)
    model.eval()
    return loss
