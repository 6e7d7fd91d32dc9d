"""How a GLIDE server is run, as a validated type. Light to import: no torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from fedloom.config.base import Frozen, Precision


class GlideOptions(Frozen):
    """How GLIDE is loaded, tuned and sampled. What is trained is the base model's U-Net, in fp32."""

    checkpointing: bool = Field(False, description="compute the U-Net's activations twice instead of keeping them")
    upsample: bool = Field(
        False, description="draw through the upsampler, which is never tuned, and only then reduce to the side"
    )
    upsampling_steps: int | str | None = Field(None, description="null: what the folder says, fast27")
    batch: int = Field(8, ge=1, description="pictures drawn at a time")
    attention_slicing: bool = Field(
        False, description="some heads at a time: slower, and of use only where attention is not fused"
    )
    offload: bool = Field(False, description="parts wait on the CPU and come to the device in turn; for drawing only")

    @model_validator(mode="after")
    def _upsampling(self) -> GlideOptions:
        if self.upsampling_steps is not None and not self.upsample:
            raise ValueError(f"upsampling_steps = {self.upsampling_steps!r} is for upsample = true")
        return self


class GlideSettings(GlideOptions):
    """The server's GLIDE, where it computes, and what it draws."""

    device: str = Field("cpu", description="as torch names it: cpu, cuda, cuda:1, mps")
    precision: Precision = Field(
        "fp32", description="arithmetic of U-Nets and text encoders; weights stay fp32, and fp16 draws only"
    )
    sampling_steps: int | None = Field(None, ge=1, description="null: what the folder says")
    guidance: float | None = Field(None, ge=0, description="null: what the folder says")
    side: int | None = Field(None, ge=1, description="side in pixels of what is handed out; null: what is drawn")
