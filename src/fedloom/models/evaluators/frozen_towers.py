"""A scoring CLIP of two frozen models, one of pictures and one of sentences, and a linear map of each.

Models that know the world, as EfficientNet and MiniLM do, tell pictures and sentences apart far better than towers that
have seen hundreds of pictures. The maps alone are learned, on the real pictures that score and nobody else sees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedloom.config.models import ClipSettings
from fedloom.errors import BadInput
from fedloom.models.clients.text import tokenize
from fedloom.models.device import CPU, place_of
from fedloom.models.evaluators.clip import SHARPEST, Clip, Samples, contrast, load_clip, world_text
from fedloom.models.evaluators.image_network import ImageNetwork, load_backbone
from fedloom.models.fit import Draws, fit_from_scratch
from fedloom.models.pictures import soften, to_float
from fedloom.models.pretrained import load_pretrained, pretrained_config, pretrained_model
from fedloom.seeding import numpy_stream, torch_stream

_WHAT = "evaluation.clip.towers"
_MAPS = "maps.safetensors"
SHARP = 20.0  # what the learned factor on cosines begins with
TOKENS = 64  # longest sentence; rows are padded to it
VIEWS = 4  # of each picture, softened by as much as a generator may blur


class SentenceEncoder(nn.Module):
    """A text model of transformers whose sentence vector is the mean of its tokens, padding aside, of length 1."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        super().__init__()
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.width = int(model.config.hidden_size)

    @torch.no_grad()
    def look(self, texts: Sequence[str], batch: int = 64) -> Tensor:
        """N texts to (N, F), on the CPU."""
        found = []
        for start in range(0, len(texts), batch):
            rows = tokenize(self.tokenizer, texts[start : start + batch])
            rows = {key: value.to(place_of(self)) for key, value in rows.items()}
            mask = rows["attention_mask"][..., None].float()
            h = self.model(**rows).last_hidden_state.float()
            found.append(F.normalize((h * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1).cpu())
        return torch.cat(found) if found else torch.zeros(0, self.width)


class FrozenTowers(nn.Module):
    """Unit vectors (B, width) of pictures and of texts: `embed_pictures` and `embed_texts`, as a `Clip` has them."""

    def __init__(self, image: ImageNetwork, text: SentenceEncoder, width: int) -> None:
        super().__init__()
        self.image, self.text = image.requires_grad_(False), text.requires_grad_(False)
        features = len(self.image.eval().look(np.zeros((1, 8, 8, 3), dtype=np.uint8))[0][0])
        self.image_map, self.text_map = nn.Linear(features, width), nn.Linear(text.eval().width, width)
        self.scale = nn.Parameter(torch.tensor(math.log(SHARP)))
        self.name = f"linear maps of {image.name} and {text.name}"

    def train(self, mode: bool = True) -> FrozenTowers:
        """Training mode for the maps; the models stay as they are."""
        super().train(mode)
        self.image.eval(), self.text.eval()
        return self

    def of_pictures(self, features: Tensor) -> Tensor:
        """The image model's features (B, F), of length 1, to unit vectors (B, width)."""
        return _mapped(self.image_map, features)

    def of_texts(self, features: Tensor) -> Tensor:
        """The text model's features (B, F), of length 1, to unit vectors (B, width)."""
        return _mapped(self.text_map, features)

    @torch.no_grad()
    def embed_pictures(self, images: NDArray[np.uint8], batch: int | None = None) -> Tensor:
        """uint8 (N, H, W, 3), of any side, to unit vectors (N, width)."""
        return self.of_pictures(F.normalize(self.image.look(images, batch)[0], dim=-1))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """N texts to unit vectors (N, width)."""
        return self.of_texts(self.text.look(texts))

    def save(self, folder: Path) -> None:
        """Write the maps; the models are not written."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items() if k.startswith(_LEARNED)}
        save_file(tensors, folder / _MAPS)
        (folder / "towers.json").write_text(json.dumps({"of": self.name, "width": self.image_map.out_features}) + "\n")


def _mapped(own: nn.Linear, features: Tensor) -> Tensor:
    return F.normalize(own(features.to(own.weight.device)), dim=-1).cpu()


_LEARNED = ("image_map.", "text_map.", "scale")


def check_towers(names: str) -> None:
    """Raises BadInput where `names`, "IMAGE+TEXT", are not two models that are here."""
    for name in names.split("+"):
        pretrained_config(_WHAT, name)


def build_towers(settings: ClipSettings) -> FrozenTowers:
    """The two models of `settings.towers` under random maps. Draws from torch's global stream.

    Raises:
        BadInput: they cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    assert settings.towers is not None
    image, text = settings.towers.split("+")
    encoder = pretrained_model(_WHAT, text, AutoModel)
    if not hasattr(encoder.config, "hidden_size") or encoder.main_input_name != "input_ids":
        raise BadInput(f"{_WHAT} {text}: a {encoder.config.model_type} reads no texts")
    words = load_pretrained(_WHAT, text, AutoTokenizer)
    words.model_max_length = min(words.model_max_length, TOKENS)
    called = f"{encoder.config.model_type} ({Path(text).name})"
    return FrozenTowers(
        load_backbone(_WHAT, image, settings.side), SentenceEncoder(encoder, words, called), settings.width
    )


def load_towers(settings: ClipSettings, folder: Path, device: torch.device = CPU) -> FrozenTowers:
    """The towers whose maps were saved in `folder`, on their device. Raises BadInput as `build_towers`."""
    towers = build_towers(settings)
    towers.load_state_dict(load_file(folder / _MAPS), strict=False)
    return towers.eval().requires_grad_(False).to(device)


def load_scoring_clip(settings: ClipSettings | None, folder: Path, device: torch.device = CPU) -> Clip | FrozenTowers:
    """What scores pictures by their prompts: the CLIP in `folder`, or the towers whose maps lie there."""
    return load_towers(settings, folder, device) if settings and settings.towers else load_clip(folder, device)


def pretrain_towers(
    towers: FrozenTowers,
    samples: Samples,
    prompts: Sequence[str],
    settings: ClipSettings,
    seed: int,
    tick: Callable[[], None] | None = None,
) -> float | None:
    """Learn the maps on pictures under their prompts, their captions, or both; arguments as for `pretrain_clip`.

    What the models see in each picture, in `VIEWS` views, and in each text is computed once.
    """
    images, captions, names = samples
    rng, views = numpy_stream(seed, "clip", "batches"), torch_stream(seed, "clip", "views")
    seen = torch.stack([_seen(towers.image, images, views) for _ in range(VIEWS)])  # (VIEWS, N, F)
    words = [(prompts[c], captions[i] if captions else "") for i, c in enumerate(names)]
    known = list(dict.fromkeys(world_text(name, caption, d) for name, caption in words for d in (0.0, 0.5, 1.0)))
    said, place = towers.text.look(known), {text: n for n, text in enumerate(known)}

    def objective(index: NDArray[np.int64]) -> Tensor:
        draws, view = rng.random(len(index)), rng.integers(0, VIEWS, len(index))
        texts = [world_text(words[i][0], words[i][1], float(draw)) for i, draw in zip(index, draws)]
        z_image = towers.of_pictures(seen[torch.from_numpy(view), torch.from_numpy(index)])
        z_text = towers.of_texts(said[[place[text] for text in texts]])
        return contrast(towers.scale.exp().clamp(max=SHARPEST).cpu(), z_image, z_text, texts)

    return fit_from_scratch(towers, "CLIP", objective, len(names), settings, Draws(rng, [views]), seed, tick)


@torch.no_grad()
def _seen(network: ImageNetwork, images: NDArray[np.uint8], draws: torch.Generator) -> Tensor:
    """Features of length 1 of a view of each picture: (N, F), on the CPU."""
    device, parts = place_of(network), range(0, len(images), network.batch)
    views = (soften(to_float(images[i : i + network.batch], device), draws) for i in parts)
    return F.normalize(torch.cat([network.features(view).cpu() for view in views]).float(), dim=-1)
