"""The settings of the judge. Importing this is light: no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fedloom.config.base import Frozen


class JudgeSettings(Frozen):
    """The classifier that scores generated pictures (GAN-test). Trained on real pictures only, never a client.

    With `pretrained` it is that classifier, fine-tuned, at smaller rates (5e-5), or a head on its frozen features; then
    `channels` says nothing.
    """

    pretrained: str | None = Field(
        None, description="folder or hub name of an image classifier (ViT-B/16, ResNet-50); null: a small one"
    )
    tune: Literal["all", "head"] = Field(
        "all", description="head: of `pretrained` the last layer alone is trained, on what the others say of four views"
    )
    side: int | None = Field(
        None, ge=32, description="pixels at which `pretrained` sees pictures; null: what its folder says"
    )
    soften: bool = Field(
        True,
        exclude_if=lambda on: on,
        description="also learn from blurred and noisy views of the real pictures, as generated ones are softer; "
        "frozen features of small sharp pictures lose by it",
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of its training; it judges in fp32")
    channels: tuple[int, ...] = (24, 48, 96)
    steps: int = Field(250, ge=0)
    batch: int = Field(64, ge=2)
    rate: float = Field(3e-3, gt=0)

    @model_validator(mode="after")
    def _given(self) -> JudgeSettings:
        if self.pretrained is None and (self.tune != "all" or self.side is not None):
            raise ValueError("tune and side are for a given judge: set evaluation.judge.pretrained")
        return self

    @model_serializer(mode="wrap")
    def _telling(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what has its default: names in the cache do not change."""
        fields: dict[str, Any] = dump(self)
        for name, usual in (("tune", "all"), ("side", None)):
            if getattr(self, name) == usual:
                fields.pop(name, None)
        return fields
