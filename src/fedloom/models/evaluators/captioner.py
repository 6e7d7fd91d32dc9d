"""The captioner: BLIP, picture to text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.config.base import Precision
from fedloom.config.models import CaptionerSettings
from fedloom.data.containers import PublicData
from fedloom.models.clients.preprocessing import ImagePreprocessor, read_optics
from fedloom.models.clients.text import tokenize
from fedloom.models.device import CPU, arithmetic, place_of
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import soften, to_float
from fedloom.models.pretrained import given_config, given_model, load_given
from fedloom.seeding import global_torch_stream, numpy_stream, torch_stream
from fedloom.weights import hub_arguments, placed

_WHAT = "server.captioner"
_LARGE = 128  # pixels from which a picture has so many positions that what is kept of 128 fills a small machine


class Captioner(nn.Module):
    """transformers' BlipForConditionalGeneration with its tokenizer.

    Args:
        model, tokenizer: as transformers has them.
        max_tokens: longest caption.
        optics: how the model wants to see pictures; None: at its side, from -1 to 1.
        precision: of its arithmetic when it captions; its weights are fp32.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_tokens: int,
        optics: ImagePreprocessor | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.max_tokens, self.precision = max_tokens, precision
        self.size: int = model.config.vision_config.image_size
        self.optics = optics or ImagePreprocessor(self.size, self.size)
        self.batch = 128 if self.size < _LARGE else 64

    @torch.no_grad()
    def caption(self, images: NDArray[np.uint8], batch: int | None = None) -> tuple[str, ...]:
        """uint8 (N, H, W, 3), of any side, to N captions, greedily decoded, `batch` at a time."""
        texts: list[str] = []
        place, batch = place_of(self), batch or self.batch
        for start in range(0, len(images), batch):
            pixels = self.optics(to_float(images[start : start + batch], place))
            with arithmetic(place, self.precision):
                rows = self.model.generate(
                    pixel_values=pixels, max_new_tokens=self.max_tokens, num_beams=1, do_sample=False
                )
            # The first token only begins a caption: published BLIPs have it beyond their tokenizer's vocabulary.
            texts += self.tokenizer.batch_decode(rows[:, 1:].cpu(), skip_special_tokens=True)
        return tuple(text.strip() for text in texts)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as a transformers folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_captioner(
    source: str | Path, max_tokens: int, device: torch.device = CPU, precision: Precision = "fp32"
) -> Captioner:
    """A captioner from a folder or hub name, on its device.

    Raises:
        BadInput: there is none, or it is no BLIP that writes captions.
    """
    from transformers import AutoTokenizer, BlipForConditionalGeneration

    check_captioner(source)
    model = given_model(_WHAT, source, BlipForConditionalGeneration)
    tokenizer = load_given(_WHAT, source, AutoTokenizer)
    optics = read_optics(placed(str(source)), model.config.vision_config.image_size, **hub_arguments(str(source)))
    return Captioner(model, tokenizer, max_tokens, optics, precision).eval().to(device)


def check_captioner(source: str | Path) -> None:
    """Raises BadInput where `source` holds no BLIP."""
    given_config(_WHAT, source, ("blip",))


def build_captioner(settings: CaptionerSettings, tokenizer: Any, image_size: int) -> Captioner:
    """A tiny random BLIP. Draws from torch's global stream."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    tower = {
        "hidden_size": settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": 2 * settings.hidden,
    }
    text = {
        **tower,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "encoder_hidden_size": settings.hidden,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    # BLIP's own initializer_range for the vision tower is made for loading weights: from scratch it would not train.
    vision = {**tower, "image_size": image_size, "patch_size": settings.patch, "initializer_range": 0.02}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    return Captioner(model, tokenizer, settings.max_tokens)


def pretrain_captioner(
    captioner: Captioner,
    generic: PublicData,
    settings: CaptionerSettings,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Caption training on the generic pairs. Captions describe, they do not name: no class knowledge enters here."""
    rng, draws = numpy_stream(seed, "captioner", "batches"), torch_stream(seed, "captioner", "views")
    rows = tokenize(captioner.tokenizer, generic.captions)

    def objective(index: NDArray[np.int64]) -> Tensor:
        i = torch.from_numpy(index)
        ids, mask = rows["input_ids"][i], rows["attention_mask"][i]
        length = int(mask.sum(1).max())
        ids, mask = ids[:, :length], mask[:, :length]
        labels = ids.masked_fill(mask == 0, -100)
        out = captioner.model(
            pixel_values=soften(to_float(generic.images[index]), draws),
            input_ids=ids,
            attention_mask=mask,
            labels=labels,
        )
        return out.loss  # type: ignore[no-any-return]

    with global_torch_stream(seed, "captioner", "training"):
        captioner.train()
        optimizer = adamw(captioner.parameters(), settings.rate)
        batches = index_batches(len(generic.labels), settings.batch, settings.steps, rng)
        loss = fit(
            optimizer,
            batches,
            objective,
            schedule=cosine(settings.steps),
            name="captioner pretraining",
            tick=tick,
        )
    captioner.eval()
    return loss
