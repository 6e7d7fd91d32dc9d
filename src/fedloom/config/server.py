"""The server's models."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from fedloom.config.archs import PAIR, allowed, resolved, serves
from fedloom.config.base import Precision, Seed
from fedloom.config.models import (
    CaptionerSettings,
    ClipSettings,
    Frozen,
    GeneratorSettings,
    ModelSettings,
)
from fedloom.tasks import SINGLE_MODALITY


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
    seed: Seed = Field(0, description="seed of the pretraining; runs with other seeds share the server's models")
    retrain: bool = Field(
        False,
        exclude_if=lambda retrain: not retrain,
        description="train here also what comes with the package: the models of the default data, clients and server",
    )

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, written: Any) -> Any:
        if not isinstance(written, dict):
            return written
        return written | {str(task): resolved(written[task], task) for task in SINGLE_MODALITY if task in written}

    @model_validator(mode="after")
    def _clip(self) -> ServerSettings:
        if self.clip.towers is not None:
            raise ValueError("clip.towers is for evaluation.clip: a generator hears a CLIP's text tower")
        return self

    @model_validator(mode="after")
    def _archs(self) -> ServerSettings:
        for task in SINGLE_MODALITY:
            own = getattr(self, task)
            if own is not None and (own.arch == PAIR or not serves(own.arch, task)):
                single = allowed(task).removesuffix(f", {PAIR}")
                raise ValueError(f"{own.arch!r} is no {task} model, allowed: {single}")
        return self
