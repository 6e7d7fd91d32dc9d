"""Sizes and sources of every model, as validated types. Importing this is light: no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from fedloom.config.archs import PAIR, canonical, reads, reads_at_side, spec_of, towers_of
from fedloom.config.base import Frozen as Frozen
from fedloom.config.glide import GlideOptions
from fedloom.config.judge import JudgeSettings as JudgeSettings
from fedloom.config.stable_diffusion import LatentOptions
from fedloom.tasks import Modality


def _check_heads(hidden: int, heads: int) -> None:
    if hidden % heads:
        raise ValueError(f"{heads} heads do not divide the width {hidden}")


def _frozen(tower: ModelSettings) -> bool:
    """Whether a tower has weights that it can be left with, beside a projector."""
    spec = spec_of(tower.arch)
    return spec.frozen or ("head" in spec.tune and tower.pretrained is not None)


class ModelSettings(Frozen):
    """A client model. With `pretrained` (folder or hub name) the sizes come from there.

    frozen-mobilenet has no random initialisation: its `pretrained` is the path of NAME.npz, with NAME.json beside it.
    gru's `pretrained` is a folder that a gru was exported to, or a file of word vectors; it has no heads.
    auto-image and auto-text are whatever `pretrained` holds; `auto` is short for the one that the clients' task wants.
    pair is a ViT and a BERT with one head, for clients of either modality: its `pretrained` names both, "VIT+BERT".
    IMAGE+TEXT ("resnet+gru") is a dual encoder of pairs, without head: its `pretrained` is "IMAGE+TEXT" too, where
    either may be empty.
    Of multimodal clients: AUDIO+IMAGE ("audio-resnet+resnet"), AUDIO+TEXT or IMAGE+TEXT are two streams under one
    `fusion`.
    ResNet-18 is `stages` (2, 2, 2, 2) at `hidden` 512.
    """

    arch: str = Field(
        description="a model of one modality, pair, or two towers: IMAGE+TEXT, AUDIO+IMAGE, AUDIO+TEXT; of one's own "
        "package.module:SPEC"
    )
    pretrained: str | None = Field(None, description="folder or hub name; null: a small one of the sizes given here")
    hidden: int = Field(64, ge=8, description="width of the backbone")
    layers: int = Field(2, ge=1, description="of a transformer or GRU")
    heads: int = Field(4, ge=1, description="of attention")
    patch: int = Field(8, ge=1, description="side of a patch in pixels (ViT, DeiT, BEiT, Swin)")
    width: int = Field(64, ge=2, description="d, the representation width all clients share; a projector bridges")
    side: int = Field(96, ge=32, description="pixels to which frozen-mobilenet and efficientnet-lite resize pictures")
    tune: Literal["all", "lora", "bias", "adapters", "head"] = Field(
        "all",
        description="what is trained besides the head: all, or a part beside a frozen backbone; head: but a projector, "
        "and what the backbone says of samples that are not augmented is kept",
    )
    rank: int = Field(8, ge=1, description="of LoRA's factors; width of an adapter's bottleneck")
    unit: bool = Field(False, description="representations of unit length; the head reads them scaled")
    stages: tuple[int, ...] = Field(
        (1, 1, 1),
        min_length=1,
        description="blocks of the stages of a ResNet, ConvNeXt or Swin, each stage twice as wide as the one before, "
        "up to `hidden`",
    )
    fusion: Literal["concat", "sum", "film", "gated"] = Field(
        "concat", description="how the two streams of a multimodal client become scores"
    )

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        return canonical(arch)

    @field_validator("stages")
    @classmethod
    def _stages(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if min(stages) < 1:
            raise ValueError("a stage has one block or more")
        return stages

    @model_validator(mode="after")
    def _weights(self) -> ModelSettings:
        towers = towers_of(self.arch)
        if len(towers) == 2 and self.pretrained and self.pretrained.count("+") != 1:
            wanted = "a ViT and a BERT as 'VIT+BERT'" if self.arch == PAIR else "'IMAGE+TEXT', either may be empty"
            raise ValueError(f"{self.arch}: pretrained = {self.pretrained!r}, expected {wanted}")
        tune = spec_of(towers[0]).tune if len(towers) == 1 or self.arch == PAIR else ("all", "head")
        if self.tune not in tune:
            raise ValueError(f"{self.arch}: tune = {self.tune!r}, allowed: {', '.join(tune)}")
        if len(towers) == 2 and self.tune == "head" and (bare := [t.arch for t in self.towers() if not _frozen(t)]):
            raise ValueError(f"{self.arch}: tune = 'head' keeps both towers as pretrained, and {bare[0]} cannot be")
        if self.arch == PAIR and self.unit:
            raise ValueError("pair: unit = True: its two halves are added as they are, allowed: False")
        for tower in self.towers():
            spec = spec_of(tower.arch)
            if spec.needs and not tower.pretrained:
                raise ValueError(f"{tower.arch} needs `pretrained`: {spec.needs}")
            if spec.check is not None:
                spec.check(tower)
        return self

    def towers(self) -> tuple[ModelSettings, ...]:
        """The models of one modality that it is made of: itself, or the two of a pair or of IMAGE+TEXT, in that order.

        Without what is put around a tower's body (`tune`, `unit`): that is what a public backbone is named by.
        """
        bare = {"tune": "all", "rank": 8, "unit": False, "fusion": "concat"}
        archs = towers_of(self.arch)
        if len(archs) == 1:
            return (self.model_copy(update=bare),)
        own = self.pretrained.split("+") if self.pretrained else ("", "")
        return tuple(
            self.model_copy(
                update=bare
                | {"arch": arch, "pretrained": weights or None}
                | ({} if reads_at_side(arch) else {"side": 96})
            )
            for arch, weights in zip(archs, own)
        )

    def kinds(self) -> tuple[Modality, ...]:
        """What its towers read, in their order: "audio", "image", "text"."""
        return reads(self.arch)

    @property
    def text_tower(self) -> ModelSettings | None:
        """The tower that reads texts, and so needs a tokenizer; None: it reads none."""
        last = self.towers()[-1]
        return last if self.kinds()[-1] == Modality.TEXT else None

    @model_serializer(mode="wrap")
    def _telling(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what means nothing here."""
        fields: dict[str, Any] = dump(self)
        if not reads_at_side(towers_of(self.arch)[0]):
            fields.pop("side", None)
        if self.tune == "all":
            fields.pop("tune", None)
        if self.tune not in ("lora", "adapters"):
            fields.pop("rank", None)
        if not self.unit:
            fields.pop("unit", None)
        if self.stages == (1, 1, 1):
            fields.pop("stages", None)
        if self.fusion == "concat":
            fields.pop("fusion", None)
        return fields


class ClipSettings(Frozen):
    """The dual encoder that scores pictures and whose text tower conditions the generator."""

    pretrained: str | None = None
    towers: str | None = Field(
        None,
        exclude_if=lambda names: names is None,
        description="of evaluation.clip: IMAGE+TEXT, folders or hub names of a frozen image model and a frozen text "
        "model; a linear map of each into the shared space is all that is trained; null: towers of these sizes",
    )
    side: int | None = Field(
        None,
        ge=32,
        exclude_if=lambda side: side is None,
        description="pixels at which the image model of `towers` sees pictures; null: what its folder says",
    )
    hidden: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    patch: int = Field(6, ge=1)
    width: int = Field(64, ge=8, description="width of the shared space")
    steps: int = Field(400, ge=0, description="pretraining steps on the generic part")
    batch: int = Field(64, ge=2)
    rate: float = Field(3e-3, gt=0)

    @model_validator(mode="after")
    def _towers(self) -> ClipSettings:
        if self.towers is None and self.side is not None:
            raise ValueError("side is for towers: set evaluation.clip.towers")
        if self.towers is not None and (
            self.pretrained is not None or [*map(bool, self.towers.split("+"))] != [True, True]
        ):
            raise ValueError(f"towers = {self.towers!r}: expected 'IMAGE+TEXT' and no `pretrained`")
        return self

    @model_validator(mode="after")
    def _heads(self) -> ClipSettings:
        _check_heads(self.hidden, self.heads)
        return self


class CaptionerSettings(Frozen):
    """The image-to-text model (BLIP), or the words of what looks most alike."""

    pretrained: str | None = None
    retrieve: str | None = Field(
        None,
        exclude_if=lambda name: name is None,
        description="folder or hub name of an image model: a picture gets the caption of a public picture whose "
        "features by that model are near, and nothing is trained; null: BLIP writes captions",
    )
    neighbours: int = Field(
        1,
        ge=1,
        exclude_if=lambda count: count == 1,
        description="of `retrieve`: nearest public pictures, of whose captions the one most like the others is taken",
    )
    side: int | None = Field(
        None,
        ge=32,
        exclude_if=lambda side: side is None,
        description="pixels at which `retrieve` sees pictures; null: what its folder says",
    )
    hidden: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    patch: int = Field(6, ge=1)
    steps: int = Field(400, ge=0)
    batch: int = Field(64, ge=2)
    rate: float = Field(3e-3, gt=0)
    max_tokens: int = Field(24, ge=2, description="longest caption, in tokens")

    @model_validator(mode="after")
    def _one(self) -> CaptionerSettings:
        if self.retrieve is not None and self.pretrained is not None:
            raise ValueError("pretrained names a captioner and retrieve an image model, allowed: one of them")
        for name, plain in (("side", None), ("neighbours", 1)):
            if self.retrieve is None and getattr(self, name) != plain:
                raise ValueError(f"{name} is for retrieve: set server.captioner.retrieve")
        return self

    @property
    def trained(self) -> int:
        """Training steps."""
        return self.steps if self.retrieve is None else 0

    @model_validator(mode="after")
    def _heads(self) -> CaptionerSettings:
        _check_heads(self.hidden, self.heads)
        return self


# How the embedded generator draws, and one of its kind.
EMBEDDED: dict[str, Any] = {"sampling_steps": 8, "guidance": 1.5}


class GeneratorSettings(Frozen):
    """The server's text-to-image model: diffusers' conditional UNet on pixel-unshuffled pictures, or a given one.

    With `autoencoder` the UNet diffuses its latents instead, which are computed once: pictures of 64 pixels and more.
    What the folder `pretrained` holds is read from its model_index.json: such a model, Stable Diffusion, or GLIDE. Then
    sizes and pretraining say nothing, and `latent` or `glide` says how it is run.
    """

    pretrained: str | None = Field(None, description="folder or hub name")
    autoencoder: str | None = Field(
        None,
        exclude_if=lambda name: name is None,
        description="folder or hub name of a small image autoencoder (diffusers' AutoencoderTiny, or TAEF2's "
        "encoder.safetensors and decoder.safetensors) whose latents are diffused; null: pixels are",
    )
    unshuffle: int = Field(
        3, ge=1, description="side of the block of pixels (or of latents: 1) that becomes channels (lossless)"
    )
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
    sampling_steps: int | None = Field(
        None, ge=1, description="null: 8; Stable Diffusion 20; GLIDE what its folder says"
    )
    guidance: float | None = Field(
        None, ge=0, description="null: 1.5; Stable Diffusion 7.5; GLIDE what its folder says"
    )
    level_shift: float = Field(2.0, gt=0, description="above 1: train more at high noise, where the subject is decided")
    level_floor: float = Field(0.25, gt=0, description="noise level below which the velocity error weighs no more")
    drop_text: float = Field(0.1, ge=0, lt=1, description="share of training samples with empty text (guidance)")
    mirror: bool = Field(
        False, exclude_if=lambda on: not on, description="half of what it is pretrained on is flipped left to right"
    )
    latent: LatentOptions | None = Field(None, description="of Stable Diffusion; null: all as by default")
    glide: GlideOptions | None = Field(None, description="of GLIDE; null: all as by default")

    @model_validator(mode="before")
    @classmethod
    def _own_sampling(cls, given: Any) -> Any:
        """The embedded model's way of drawing stands in its configuration; another's is its own."""
        if not isinstance(given, dict) or given.get("pretrained") is not None:
            return given
        return given | {k: v for k, v in EMBEDDED.items() if given.get(k) is None}

    @model_validator(mode="after")
    def _given(self) -> GeneratorSettings:
        groups = [name for name in ("latent", "glide") if getattr(self, name) is not None]
        if groups and self.pretrained is None:
            raise ValueError(f"{groups[0]} is for a given generator: set server.generator.pretrained")
        if self.pretrained is not None and self.autoencoder is not None:
            raise ValueError("pretrained names a whole generator, autoencoder included: allowed: one of them")
        if len(groups) == 2:
            raise ValueError("latent is for Stable Diffusion and glide for GLIDE, allowed: one of them")
        return self

    @model_serializer(mode="wrap")
    def _telling(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out groups that are not there."""
        fields: dict[str, Any] = dump(self)
        for name in ("latent", "glide"):
            if getattr(self, name) is None:
                fields.pop(name, None)
        return fields
