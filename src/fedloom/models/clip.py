"""The dual encoder: scores pictures against prompts; its text tower conditions the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedloom.data.scene import Generic
from fedloom.models.fit import adamw, cosine, fit, index_batches
from fedloom.models.pictures import soften, to_float
from fedloom.models.settings import ClipSettings
from fedloom.models.text import tokenize
from fedloom.randomness import global_torch_stream, numpy_stream, torch_stream


class Clip(nn.Module):
    """transformers' CLIPModel with its tokenizer. Embeddings are unit vectors (B, width)."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.size: int = model.config.vision_config.image_size

    def embed_images(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) in [-1, 1] to unit vectors (B, width); resized to the tower's side where they differ."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(
                -1, 1
            )
        return F.normalize(_pooled(self.model.get_image_features(pixel_values=images)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """B texts to unit vectors (B, width)."""
        return F.normalize(_pooled(self.model.get_text_features(**tokenize(self.tokenizer, texts))), dim=-1)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as a transformers folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _pooled(output: Any) -> Tensor:
    # transformers 5 returns an output object, earlier versions the tensor itself
    return output if isinstance(output, Tensor) else output.pooler_output


def load_clip(source: str | Path) -> Clip:
    """A CLIP from a folder or hub name."""
    from transformers import AutoTokenizer, CLIPModel

    return Clip(CLIPModel.from_pretrained(source).eval(), AutoTokenizer.from_pretrained(source)).eval()


def build_clip(settings: ClipSettings, tokenizer: Any, image_size: int) -> Clip:
    """A tiny random CLIP. Draws from torch's global stream."""
    from transformers import CLIPConfig, CLIPModel

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
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**tower, "image_size": image_size, "patch_size": settings.patch}
    return Clip(
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.width)),
        tokenizer,
    )


def world_text(prompt: str, caption: str, draw: float) -> str:
    """How the generic world speaks of a picture: by name, by description, or by both."""
    if draw < 0.4:
        return prompt
    return caption if draw < 0.7 else f"{prompt} {caption}"


def pretrain_clip(
    clip: Clip,
    generic: Generic,
    prompts: Sequence[str],
    settings: ClipSettings,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Contrastive pretraining on the generic pairs, by their true names.

    CLIP is the scorer: what it lacks is training, not truth. And its text tower must tell names apart, or no generator
    that listens to it could unlearn a confusion.
    """
    rng, views = numpy_stream(seed, "clip", "batches"), torch_stream(seed, "clip", "views")
    pixels = to_float(generic.images)

    def objective(index: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        draws = rng.random(len(index))
        texts = [
            world_text(prompts[generic.labels[i]], generic.captions[i], float(draw))
            for i, draw in zip(index, draws)
        ]
        z_image, z_text = (
            clip.embed_images(soften(pixels[torch.from_numpy(index)], views)),
            clip.embed_texts(texts),
        )
        logits = clip.model.logit_scale.exp().clamp(max=50) * z_image @ z_text.T  # (B, B)
        # Equal texts are equally right: class prompts repeated in a batch must not be each other's negatives.
        ids = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        same = torch.tensor([ids[text] for text in texts])
        target = (same[:, None] == same[None, :]).float()
        target = target / target.sum(1, keepdim=True)
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))

    with global_torch_stream(seed, "clip", "training"):
        clip.train()
        optimizer = adamw(clip.parameters(), settings.rate)
        batches = index_batches(len(generic.labels), settings.batch, settings.steps, rng)
        loss = fit(
            optimizer, batches, objective, schedule=cosine(settings.steps), name="CLIP pretraining", tick=tick
        )
    clip.eval()
    return loss
