"""How a model wants to see pictures: its side, its crop, its mean and spread, as its preprocessor_config.json says.

The work is done on tensors, on whatever device they are: no image library is needed, and a small picture is enlarged
where the model is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.strict_json import parse

_HALF = (0.5, 0.5, 0.5)
_BILINEAR = 2  # of Pillow's numbers; whatever else a file names becomes bicubic
_CONVNEXT_WHOLE = 384  # from this side on ConvNext's processor enlarges without cropping
FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class ImagePreprocessor:
    """Resize to `resized` pixels, keep the middle `side`, take off `mean`, divide by `std` (of pixels in [0, 1])."""

    side: int
    resized: int
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF
    mode: str = "bicubic"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Square pictures float (B, 3, H, H) in [-1, 1] as the model reads them, (B, 3, side, side)."""
        if pixels.shape[-2:] != (self.resized, self.resized):
            # Rows first, then columns, and no pixel beyond white or black in between: so Pillow does, to a pixel step.
            for size in ((pixels.shape[-2], self.resized), (self.resized, self.resized)):
                pixels = F.interpolate(pixels, size, mode=self.mode, antialias=True).clamp(-1, 1)
        if self.side != self.resized:
            first = (self.resized - self.side) // 2
            pixels = pixels[..., first : first + self.side, first : first + self.side]
        if self.mean == self.std == _HALF:
            return pixels
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (self.mean, self.std))
        return ((pixels + 1) / 2 - mean) / std

    def processor(self) -> dict[str, Any]:
        """The same as a preprocessor_config.json of transformers: of its ViT, or of its CLIP, which crops."""
        seen = {
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "resample": _BILINEAR if self.mode == "bilinear" else 3,
        }
        whole = {"height": self.side, "width": self.side}
        if self.side == self.resized:
            return {"image_processor_type": "ViTImageProcessor", "size": whole, **seen}
        shorter = {"size": {"shortest_edge": self.resized}, "crop_size": whole, "do_center_crop": True}
        return {"image_processor_type": "CLIPImageProcessor", **shorter, **seen}


def read_preprocessor(source: str | Path, side: int, **hub: Any) -> ImagePreprocessor:
    """What the folder or hub name `source` says of the pictures its model reads.

    Args:
        source: a folder, or a hub name.
        side: in pixels, of a model that comes without such a file: read at that side, from -1 to 1.
        hub: `revision` and the like, of a hub name.

    Raises:
        BadInput: the file is no JSON, or says something that is no picture size, mean or spread.
    """
    from transformers.utils import cached_file

    try:
        found = cached_file(
            str(source),
            FILE,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
    except OSError:
        found = None
    if found is None:
        return ImagePreprocessor(side, side)
    try:
        return _parsed(parse(Path(found).read_bytes(), finite=False), side)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{found}: cannot be read as an image processor: {error}") from error


def _parsed(said: Mapping[str, Any], side: int) -> ImagePreprocessor:
    if not isinstance(said, Mapping):
        raise ValueError(f"holds a {type(said).__name__}")
    resized = _side_of(said.get("size"), side) if said.get("do_resize", True) else side
    kept = resized
    kind = str(said.get("image_processor_type", said.get("feature_extractor_type", "")))
    if kind.startswith("ConvNext") and resized < _CONVNEXT_WHOLE:
        resized = int(resized / (said.get("crop_pct") or 224 / 256))
    elif said.get("do_center_crop"):
        kept = min(_side_of(said.get("crop_size"), resized), resized)
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF
    if said.get("do_normalize", True):
        mean, std = (tuple(float(x) for x in said.get(k) or _HALF) for k in ("image_mean", "image_std"))
    else:
        mean, std = (0.0,) * 3, (1.0,) * 3
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"image_mean = {mean}, image_std = {std}")
    return ImagePreprocessor(kept, resized, mean, std, "bilinear" if said.get("resample") == _BILINEAR else "bicubic")


def _side_of(size: Any, otherwise: int) -> int:
    if isinstance(size, Mapping):
        size = size.get("height", size.get("shortest_edge", size.get("width")))
    found = otherwise if size is None else int(size)
    if found < 1:
        raise ValueError(f"size {found}")
    return found


def side_of(config: Any, otherwise: int) -> int:
    """The side in pixels that a configuration of transformers says images have, else `otherwise`."""
    size = getattr(getattr(config, "vision_config", config), "image_size", None) or otherwise
    return int(size if isinstance(size, int) else size[0])
