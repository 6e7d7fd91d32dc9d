"""How large a described model is, roughly, before anything of it is built."""

from __future__ import annotations

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput

MOST_BLOCKS = 512  # layers, or blocks of all stages; the deepest models in use have a third of that


def weights_about(model: ModelSettings) -> float:
    """About how many weights a model of these sizes has in its backbone, whatever its architecture."""
    wide, stages = float(model.hidden) ** 2, model.stages
    transformer = 12.0 * model.layers * wide
    convolutions = 18.0 * wide * sum(n / 4.0 ** (len(stages) - 1 - i) for i, n in enumerate(stages))
    return max(transformer, convolutions if stages != (1, 1, 1) else 0.0)


def check_sizes(model: ModelSettings, most: float) -> None:
    """Raises BadInput for a model of more than `most` weights, or of more blocks than any model has."""
    blocks = max(model.layers, sum(model.stages))
    if blocks > MOST_BLOCKS or len(model.stages) > MOST_BLOCKS:
        raise BadInput(
            f"model.layers = {model.layers}, blocks in model.stages = {sum(model.stages)}, allowed: {MOST_BLOCKS}"
        )
    size = weights_about(model)
    for key in ("width", "rank"):
        if (wide := getattr(model, key) * float(model.hidden)) > most:
            raise BadInput(f"model.{key} = {getattr(model, key)}: about {wide:.1e} weights, allowed: {most:.1e}")
    if size > most:
        raise BadInput(
            f"model.hidden = {model.hidden}, model.layers = {model.layers}: about {size:.1e} weights, "
            f"allowed: {most:.1e}"
        )
