"""Swin: a transformer of shifted windows, in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedloom.models.clients.spec import ClientModelSpec, DataShape, check_heads, check_stages, stage_widths
from fedloom.tasks import Modality

if TYPE_CHECKING:
    from fedloom.config.models import ModelSettings

WINDOW = 7  # patches a side of a window, as published


def _check(s: ModelSettings) -> None:
    check_stages(s)
    check_heads(s)


def _sizes(s: ModelSettings, data: DataShape) -> dict[str, Any]:
    widths = stage_widths(s)
    smallest = data.image_size // s.patch // 2 ** (len(widths) - 1)  # patches a side in the last stage
    return {
        "window_size": min(max(smallest, 1), WINDOW),
        "embed_dim": widths[0],
        "depths": list(s.stages),
        "num_heads": [max(1, s.heads * width // s.hidden) for width in widths],  # of one width, the last with `heads`
        "mlp_ratio": 2.0,
        "drop_path_rate": 0.0,
        "image_size": data.image_size,
        "patch_size": s.patch,
    }


def _widths(config: Any) -> list[int]:
    """Of each stage's output: all but the last end by merging patches, into twice the width."""
    last = len(config.depths) - 1
    return [config.embed_dim * 2 ** min(i + 1, last) for i in range(last + 1)]


SPEC = ClientModelSpec(
    name="swin",
    modality=Modality.IMAGE,
    network="Swin",
    sizes=_sizes,
    check=_check,
    block_widths=_widths,
    patched=True,
)
