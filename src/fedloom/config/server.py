"""The server's models."""

from __future__ import annotations

from pydantic import (
    Field,
    model_validator,
)

from fedloom.config.base import Precision
from fedloom.config.models import (
    IMAGE_ARCHS,
    TEXT_ARCHS,
    CaptionerSettings,
    ClipSettings,
    Frozen,
    GeneratorSettings,
    ModelSettings,
)
from fedloom.data.tasks import ClientTask


class ServerSettings(Frozen):
    """The server's models. Pretrained once on the generic part of the data, or loaded."""

    device: str = Field(
        "cpu",
        description="where they live, as torch names it: cpu, cuda, cuda:1, mps; the embedded ones learn on a CPU",
    )
    precision: Precision = Field(
        "fp32",
        description="arithmetic of generator and captioner. Weights that are trained, a VAE and what scores stay fp32; "
        "with fp16 the generator only draws",
    )
    image: ModelSettings | None = Field(
        None,
        description="the server's own picture model, where a method has one; null: as the largest client's",
    )
    text: ModelSettings | None = Field(None, description="its own text model; null: as the largest client's")
    public_steps: int = Field(
        0,
        ge=0,
        description="steps in which the server's own models learn from the generic part, where clients start from "
        "random weights (clients.public_steps = 0)",
    )
    vocabulary: int = Field(1000, ge=16, description="entries of the public word-piece vocabulary")
    tokens: int = Field(24, ge=4, description="longest text in tokens")
    clip: ClipSettings = ClipSettings()
    captioner: CaptionerSettings = CaptionerSettings()
    generator: GeneratorSettings = GeneratorSettings()
    seed: int = Field(0, ge=0, description="seed of the pretraining; runs with other seeds share the server's models")

    @model_validator(mode="after")
    def _archs(self) -> ServerSettings:
        for modality, allowed in (
            (ClientTask.IMAGE_CLASSIFICATION, IMAGE_ARCHS),
            (ClientTask.TEXT_CLASSIFICATION, TEXT_ARCHS),
        ):
            own, single = getattr(self, modality), [arch for arch in allowed if arch != "pair"]
            if own is not None and own.arch not in single:
                raise ValueError(f"{own.arch!r} is no {modality} model, allowed: {', '.join(single)}")
        return self
