"""The dual encoder of pictures and texts: the server's, whose text tower the generator hears, and one that scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedloom.config.models import ClipSettings
from fedloom.models.clients.text import tokenize
from fedloom.models.device import CPU, place_of
from fedloom.models.evaluators.tokenized import TokenizedModel, load_parts, tiny_configs
from fedloom.models.fit import Draws, fit_from_scratch
from fedloom.models.pictures import soften, to_float
from fedloom.models.pretrained import pretrained_config
from fedloom.seeding import numpy_stream, torch_stream

_WHAT = "server.clip"
SHARPEST = 50.0  # largest factor on cosines
Samples = tuple[NDArray[np.uint8], Sequence[str], NDArray[np.int64]]  # pictures, captions (or none), a class each


class Clip(TokenizedModel):
    """transformers' CLIPModel with its tokenizer. Embeddings are unit vectors (B, width), in fp32, on the CPU."""

    def embed_images(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1], of any side, to unit vectors (B, width)."""
        pixels = self.preprocessor(images.to(place_of(self)))
        return F.normalize(_pooled(self.model.get_image_features(pixel_values=pixels)), dim=-1).cpu()

    @torch.no_grad()
    def embed_pictures(self, images: NDArray[np.uint8], batch: int = 256) -> Tensor:
        """uint8 (N, H, W, 3), of any side, to unit vectors (N, width), a batch at a time."""
        place = place_of(self)
        parts = (images[i : i + batch] for i in range(0, max(len(images), 1), batch))
        return torch.cat([self.embed_images(to_float(part, place)) for part in parts])

    @torch.no_grad()
    def classify(self, images: NDArray[np.uint8], prompts: Sequence[str]) -> Tensor:
        """Which of C prompts fits each of N pictures, zero-shot: uint8 (N, H, W, 3) to (N, C), rows sum to 1."""
        scale = self.model.logit_scale.exp().clamp(max=SHARPEST).cpu()
        scores: Tensor = scale * self.embed_pictures(images) @ self.embed_texts(prompts).T
        return scores.softmax(-1)

    def embed_texts(self, texts: Sequence[str], batch: int = 512) -> Tensor:
        """B texts to unit vectors (B, width), a batch at a time."""
        place, vectors = place_of(self), []
        for start in range(0, max(len(texts), 1), batch):
            rows = tokenize(self.tokenizer, texts[start : start + batch])
            rows = {key: value.to(place) for key, value in rows.items()}
            vectors.append(F.normalize(_pooled(self.model.get_text_features(**rows)), dim=-1).cpu())
        return torch.cat(vectors)


def _pooled(output: Any) -> Tensor:
    # transformers 5 returns an output object, earlier versions the tensor itself
    return output if isinstance(output, Tensor) else output.pooler_output


def load_clip(source: str | Path, device: torch.device = CPU) -> Clip:
    """A CLIP from a folder or hub name, on its device.

    Raises:
        BadInput: there is none.
    """
    from transformers import CLIPModel

    model, tokenizer, preprocessor = load_parts(_WHAT, source, "clip", CLIPModel)
    most = model.config.text_config.max_position_embeddings  # a tokenizer need not know it
    tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return Clip(model, tokenizer, preprocessor).eval().to(device)


def check_clip(source: str | Path) -> None:
    """Raises BadInput where `source` holds no CLIP."""
    pretrained_config(_WHAT, source, ("clip",))


def build_clip(settings: ClipSettings, tokenizer: Any, image_size: int) -> Clip:
    """A tiny random CLIP. Draws from torch's global stream."""
    from transformers import CLIPConfig, CLIPModel

    text, vision = tiny_configs(settings, tokenizer, image_size)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.width)
    return Clip(CLIPModel(config), tokenizer)


NAMES_APART = 10.0  # how sharply prompts are told apart: cosines fall to about a half


def world_text(prompt: str, caption: str, draw: float) -> str:
    """How the generic world speaks of a picture: by name, by description, or by both."""
    if draw < 0.4 or not caption:
        return prompt
    return caption if draw < 0.7 else f"{prompt} {caption}"


def contrast(scale: Tensor, z_image: Tensor, z_text: Tensor, texts: Sequence[str]) -> Tensor:
    """CLIP's loss on unit vectors (B, d) of B pictures and their texts, cosines times `scale`: a scalar.

    Equal texts are equally right: class prompts repeated in a batch must not be each other's negatives.
    """
    logits = scale * z_image @ z_text.T  # (B, B)
    ids = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    same = torch.tensor([ids[text] for text in texts])
    target = (same[:, None] == same[None, :]).float()
    target = target / target.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def pretrain_clip(
    clip: Clip,
    samples: Samples,
    prompts: Sequence[str],
    settings: ClipSettings,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Contrastive pretraining on pictures under their prompts, their captions, or both.

    The server's learns the names that the public gives its pictures, the one that scores the true ones. Names that the
    public mixes up would become one to a tower this small, where they are two words to one that has read the web: so
    each prompt is also taught to be nearest to itself, which says nothing of pictures.

    Args:
        samples: pictures uint8 (N, H, W, 3); N descriptions, or none: then all is said by name; names (N,), the class
            that each picture is said to show.
        prompts: of the C classes.
    """
    images, captions, names = samples
    rng, views = numpy_stream(seed, "clip", "batches"), torch_stream(seed, "clip", "views")

    def objective(index: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        draws = rng.random(len(index))
        texts = [
            world_text(prompts[names[i]], captions[i] if captions else "", float(draw)) for i, draw in zip(index, draws)
        ]
        z_image = clip.embed_images(soften(to_float(images[index]), views))
        z_text = clip.embed_texts(texts)
        scale = clip.model.logit_scale.exp().clamp(max=SHARPEST)
        apart = NAMES_APART * (p := clip.embed_texts(prompts)) @ p.T  # (C, C)
        return contrast(scale, z_image, z_text, texts) + F.cross_entropy(apart, torch.arange(len(prompts)))

    return fit_from_scratch(clip, "CLIP", objective, len(names), settings, Draws(rng, [views]), seed, tick)
