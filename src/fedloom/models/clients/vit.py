"""ViT, DeiT and BEiT: transformers of patches of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.models.clients.spec import ClientModelSpec, DataShape, check_heads
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings


def _sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    return {
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "intermediate_size": 2 * s.hidden,
        "image_size": data.image_size,
        "patch_size": s.patch,
    }


def _beit_sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    own = {"use_absolute_position_embeddings": True, "use_mask_token": False, "drop_path_rate": 0.0}
    return _sizes(s, data) | own


_COMMON: dict[str, Any] = {"modality": Modality.IMAGE, "check": check_heads, "patched": True}
VIT = ClientModelSpec(name="vit", network="ViT", sizes=_sizes, **_COMMON)
DEIT = ClientModelSpec(name="deit", network="DeiT", sizes=_sizes, **_COMMON)
BEIT = ClientModelSpec(name="beit", network="Beit", sizes=_beit_sizes, **_COMMON)
