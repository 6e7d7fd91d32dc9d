"""The captioner: BLIP, picture to text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.config.base import Precision
from fedloom.config.models import CaptionerSettings
from fedloom.data.containers import PublicData
from fedloom.models.clients.preprocessing import ImagePreprocessor
from fedloom.models.clients.text import tokenize
from fedloom.models.device import CPU, arithmetic, place_of
from fedloom.models.evaluators.tokenized import TokenizedModel, load_parts, tiny_configs
from fedloom.models.fit import Draws, fit_from_scratch
from fedloom.models.pictures import soften, to_float
from fedloom.models.pretrained import pretrained_config
from fedloom.seeding import numpy_stream, torch_stream

_WHAT = "server.captioner"
_LARGE = 128  # pixels from which a picture has so many positions that what is kept of 128 fills a small machine


class Captioner(TokenizedModel):
    """transformers' BlipForConditionalGeneration with its tokenizer.

    Args:
        model, tokenizer, preprocessor: see `TokenizedModel`.
        max_tokens: longest caption.
        precision: of its arithmetic when it captions; its weights are fp32.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_tokens: int,
        preprocessor: ImagePreprocessor | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(model, tokenizer, preprocessor)
        self.max_tokens, self.precision = max_tokens, precision
        self.batch = 128 if self.size < _LARGE else 64

    @torch.no_grad()
    def caption(self, images: NDArray[np.uint8], batch: int | None = None) -> tuple[str, ...]:
        """uint8 (N, H, W, 3), of any side, to N captions, greedily decoded, `batch` at a time."""
        texts: list[str] = []
        place, batch = place_of(self), batch or self.batch
        for start in range(0, len(images), batch):
            pixels = self.preprocessor(to_float(images[start : start + batch], place))
            with arithmetic(place, self.precision):
                rows = self.model.generate(
                    pixel_values=pixels, max_new_tokens=self.max_tokens, num_beams=1, do_sample=False
                )
            # The first token only begins a caption: published BLIPs have it beyond their tokenizer's vocabulary.
            texts += self.tokenizer.batch_decode(rows[:, 1:].cpu(), skip_special_tokens=True)
        return tuple(text.strip() for text in texts)


def load_captioner(
    source: str | Path, max_tokens: int, device: torch.device = CPU, precision: Precision = "fp32"
) -> Captioner:
    """A captioner from a folder or hub name, on its device.

    Raises:
        BadInput: there is none, or it is no BLIP that writes captions.
    """
    from transformers import BlipForConditionalGeneration

    model, tokenizer, preprocessor = load_parts(_WHAT, source, "blip", BlipForConditionalGeneration)
    return Captioner(model, tokenizer, max_tokens, preprocessor, precision).eval().to(device)


def check_captioner(source: str | Path) -> None:
    """Raises BadInput where `source` holds no BLIP."""
    pretrained_config(_WHAT, source, ("blip",))


def build_captioner(settings: CaptionerSettings, tokenizer: Any, image_size: int) -> Captioner:
    """A tiny random BLIP. Draws from torch's global stream."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    text, vision = tiny_configs(settings, tokenizer, image_size)
    text |= {"encoder_hidden_size": settings.hidden, "sep_token_id": tokenizer.sep_token_id}
    text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    # BLIP's own initializer_range for the vision tower is made for loading weights: from scratch it would not train.
    vision["initializer_range"] = 0.02
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

    return fit_from_scratch(captioner, "captioner", objective, len(generic), settings, Draws(rng, [draws]), seed, tick)
