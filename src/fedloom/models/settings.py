"""Sizes and sources of every model, as validated types. Importing this is light: no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Arch = Literal["vit", "beit", "resnet", "frozen-mobilenet", "bert", "distilbert", "roberta", "pair"]

IMAGE_ARCHS = ("vit", "beit", "resnet", "frozen-mobilenet", "pair")
TEXT_ARCHS = ("bert", "distilbert", "roberta", "pair")


class Frozen(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_heads(hidden: int, heads: int) -> None:
    if hidden % heads:
        raise ValueError(f"{heads} heads do not divide the width {hidden}")


class LearnerSettings(Frozen):
    """A client's model. With `pretrained` (folder or hub name) the sizes come from there.

    frozen-mobilenet has no random start: its `pretrained` is the path of NAME.npz, with NAME.json beside it.
    pair is a ViT and a BERT with one head, for clients of either modality: its `pretrained` names both, "VIT+BERT".
    """

    arch: Arch
    pretrained: str | None = None
    hidden: int = Field(64, ge=8, description="width of the backbone")
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    patch: int = Field(8, ge=1, description="side of a patch in pixels (ViT, BEiT)")
    width: int = Field(
        64, ge=2, description="d, the representation width all clients share; a projector bridges"
    )
    side: int = Field(96, ge=32, description="pixels to which frozen-mobilenet resizes pictures")
    tune: Literal["all", "lora", "bias", "adapters"] = Field(
        "all", description="what is trained besides the head: all, or a part beside a frozen backbone"
    )
    rank: int = Field(8, ge=1, description="of LoRA's factors; width of an adapter's bottleneck")

    @model_validator(mode="after")
    def _weights(self) -> LearnerSettings:
        if self.arch == "frozen-mobilenet" and not self.pretrained:
            raise ValueError(
                "frozen-mobilenet needs `pretrained`: the path of its arrays, NAME.npz with NAME.json beside it"
            )
        if self.arch == "frozen-mobilenet" and self.tune != "all":
            raise ValueError(
                f"frozen-mobilenet has a frozen backbone as it is, tune = {self.tune!r}: allowed: all"
            )
        if self.arch == "resnet" and self.tune == "lora":
            raise ValueError("a resnet has no attention for LoRA, allowed for tune: all, bias, adapters")
        if self.arch == "pair" and self.pretrained and self.pretrained.count("+") != 1:
            raise ValueError(
                f"pair: pretrained = {self.pretrained!r}, expected a ViT and a BERT as 'VIT+BERT'"
            )
        if self.pretrained is None and self.arch != "resnet":
            _check_heads(self.hidden, self.heads)
        return self

    def towers(self) -> tuple[LearnerSettings, ...]:
        """The models of one modality that it is made of: itself, or a pair's two, picture first."""
        if self.arch != "pair":
            return (self.model_copy(update={"tune": "all", "rank": 8}),)
        own = self.pretrained.split("+") if self.pretrained else (None, None)
        common = {"tune": "all", "rank": 8, "side": 96}
        return tuple(
            self.model_copy(update={"arch": arch, "pretrained": weights, **common})
            for arch, weights in zip(("vit", "bert"), own)
        )

    @model_serializer(mode="wrap")
    def _telling(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what means nothing here: models' dumps name their caches and random streams."""
        fields: dict[str, Any] = dump(self)
        if self.arch != "frozen-mobilenet":
            fields.pop("side", None)
        if self.tune == "all":
            fields.pop("tune", None)
        if self.tune not in ("lora", "adapters"):
            fields.pop("rank", None)
        return fields


class ClipSettings(Frozen):
    """The dual encoder that scores pictures and whose text tower conditions the generator."""

    pretrained: str | None = None
    hidden: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    patch: int = Field(4, ge=1)
    width: int = Field(64, ge=8, description="width of the shared space")
    steps: int = Field(300, ge=0, description="pretraining steps on the generic part")
    batch: int = Field(96, ge=2)
    rate: float = Field(1.5e-3, gt=0)

    @model_validator(mode="after")
    def _heads(self) -> ClipSettings:
        _check_heads(self.hidden, self.heads)
        return self


class CaptionerSettings(Frozen):
    """The image-to-text model (BLIP)."""

    pretrained: str | None = None
    hidden: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    patch: int = Field(8, ge=1)
    steps: int = Field(400, ge=0)
    batch: int = Field(64, ge=2)
    rate: float = Field(3e-3, gt=0)
    max_tokens: int = Field(24, ge=2, description="longest caption, in tokens")

    @model_validator(mode="after")
    def _heads(self) -> CaptionerSettings:
        _check_heads(self.hidden, self.heads)
        return self


class GeneratorSettings(Frozen):
    """The server's text-to-image model: diffusers' conditional UNet on pixel-unshuffled pictures."""

    pretrained: str | None = None
    unshuffle: int = Field(3, ge=1, description="side of the pixel block that becomes channels (lossless)")
    channels: tuple[int, ...] = (24, 48)
    layers: int = Field(1, ge=1, description="residual blocks a level")
    heads: int = Field(4, ge=1)
    prediction: Literal["picture", "velocity"] = Field(
        "picture",
        description="what the UNet's output means; both are rectified flow. Large pixel blocks need `picture`",
    )
    steps: int = Field(1200, ge=0, description="pretraining steps on the generic part")
    batch: int = Field(16, ge=1)
    rate: float = Field(3e-3, gt=0)
    sampling_steps: int = Field(8, ge=1)
    guidance: float = Field(1.5, ge=0)
    level_shift: float = Field(
        2.0, gt=0, description="above 1: train more at high noise, where the subject is decided"
    )
    level_floor: float = Field(
        0.25, gt=0, description="noise level below which the velocity error weighs no more"
    )
    drop_text: float = Field(
        0.1, ge=0, lt=1, description="share of training samples with empty text (guidance)"
    )


class JudgeSettings(Frozen):
    """The classifier that scores generated pictures (GAN-test). Trained on real pictures only, never a client."""

    channels: tuple[int, ...] = (24, 48, 96)
    steps: int = Field(250, ge=0)
    batch: int = Field(64, ge=2)
    rate: float = Field(3e-3, gt=0)
