"""The clients' models and their local training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fedloom.config.archs import PAIR, PAIR_OF, allowed, resolved, serves
from fedloom.config.base import Precision
from fedloom.config.models import Frozen, ModelSettings
from fedloom.config.privacy import PrivacySettings
from fedloom.tasks import CLIENT_TASKS, SINGLE_MODALITY, ClientTask

OWN_TRAINING = ("optimizer", "rate", "decay")  # what a group of clients may say for itself

_OF_GROUP = {"count", "name", *OWN_TRAINING}  # what is no part of its model

MOST_CLIENTS = 10_000  # of one group: a slip of the finger must not fill the memory with settings


class ClientGroup(ModelSettings):
    """`count` clients of one model."""

    count: int = Field(1, ge=1, le=MOST_CLIENTS)
    name: str | None = Field(None, description="of the one client of this group; default MODALITY-NUMBER")
    optimizer: Literal["adamw", "sgd"] | None = Field(None, description="of this group; null: the clients'")
    rate: float | None = Field(None, gt=0, description="its rate; null: the clients'")
    decay: float | None = Field(None, ge=0, description="its weight decay; null: the clients'")

    @model_validator(mode="after")
    def _one_bearer(self) -> ClientGroup:
        if self.name is not None and self.count != 1:
            raise ValueError(f"{self.count} clients cannot all be called {self.name!r}")
        return self

    @model_serializer(mode="wrap")
    def _telling(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As a model's, and without a training of its own where it has none."""
        fields = super()._telling(dump)
        return {k: v for k, v in fields.items() if v is not None or k not in OWN_TRAINING}


class ClientsSettings(Frozen):
    """The clients' models and their local training."""

    image: tuple[ClientGroup, ...] = (
        ClientGroup(arch="vit", count=2, patch=6),
        ClientGroup(arch="beit", count=2, hidden=48, patch=6),
    )
    text: tuple[ClientGroup, ...] = (
        ClientGroup(arch="bert", count=2),
        ClientGroup(arch="distilbert", count=2, hidden=48),
    )
    pair: tuple[ClientGroup, ...] = Field(
        (), description="clients of pictures with captions (retrieval): arch IMAGE+TEXT, such as resnet+gru"
    )
    joint: tuple[ClientGroup, ...] = Field(
        (),
        description="clients whose samples have two kinds of data and one label, all of one model: arch AUDIO+IMAGE, "
        "AUDIO+TEXT or IMAGE+TEXT, such as audio-resnet+resnet",
    )
    public_steps: int = Field(
        500,
        ge=0,
        description="steps in which random backbones learn from the generic part, once; 0: stay random",
    )
    warm_steps: int = Field(150, ge=0, description="private steps before round 1 (E_0 of FedMMKT)")
    tokens: int | None = Field(
        None,
        ge=4,
        exclude_if=lambda tokens: tokens is None,
        description="longest text, in tokens, of text clients with pretrained weights; null: server.tokens",
    )
    batch: int = Field(32, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    rate: float = Field(2e-3, gt=0, description="the optimiser's rate")
    decay: float = Field(0.01, ge=0)
    clip: float | None = Field(1.0, gt=0, description="largest norm of a step's gradient; null: any")
    augment: bool = Field(
        True,
        description="shift, flip and noise private pictures in training; drop words of texts; of multimodal samples "
        "also move sounds in time",
    )
    privacy: PrivacySettings | None = Field(
        None, exclude_if=lambda privacy: privacy is None, description="differential privacy of clients; null: none"
    )
    devices: tuple[str, ...] = Field(
        ("cpu",),
        min_length=1,
        description="where the clients' backbones live, as torch names devices; dealt out to the clients in turn",
    )
    precision: Precision = Field(
        "fp32", description="arithmetic of the backbones; weights stay fp32, and fp16 scales the loss"
    )
    accumulate: int = Field(
        1, ge=1, description="parts a batch is computed in, one after the other: less memory, the same step"
    )
    checkpointing: bool = Field(False, description="compute the backbones' activations twice instead of keeping them")

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, written: Any) -> Any:
        if not isinstance(written, dict):
            return written
        groups = {str(m): written[m] for m in CLIENT_TASKS if isinstance(written.get(m), list | tuple)}
        return written | {m: [resolved(group, m) for group in held] for m, held in groups.items()}

    @model_validator(mode="after")
    def _modalities(self) -> ClientsSettings:
        for modality in CLIENT_TASKS:
            for group in getattr(self, modality):
                if not serves(group.arch, modality):
                    raise ValueError(f"{group.arch!r} is no {modality} model, allowed: {allowed(modality)}")
        if not self.groups:
            raise ValueError("there is no client")
        unlike = {g.model_dump_json(exclude=_OF_GROUP) for g in self.joint}
        if len(unlike) > 1:
            raise ValueError(f"multimodal clients need one model, {len(unlike)} given: what they share are parameters")
        if any(g.unit for g in self.joint):
            raise ValueError("joint: unit = True: fusion heads read features as they are, allowed: False")
        if tuned := [g.tune for g in self.joint if g.tune not in ("all", "head")]:
            raise ValueError(f"joint: tune = {tuned[0]!r}: parameters are shared whole, allowed: all, head")
        if len(widths := {g.width: g for g in self.groups}) > 1:
            given = ", ".join(f"{g.arch} {width}" for width, g in widths.items())
            raise ValueError(f"representations need one `width` for all clients, given: {given}")
        names = [name for modality in CLIENT_TASKS for name in self.names(modality)]
        if twice := sorted(name for name, times in Counter(names).items() if times > 1):
            raise ValueError(f"two clients are called {twice[0]!r}")
        return self

    @property
    def groups(self) -> tuple[ClientGroup, ...]:
        """All groups: of pictures, of texts, of pairs, of multimodal samples."""
        return (*self.image, *self.text, *self.pair, *self.joint)

    def training(self, name: str | None = None) -> dict[str, Any]:
        """How a client trains, by the names that `ClientContext` takes; name: of one whose group may differ."""
        keys = ("batch", "rate", "decay", "augment", "optimizer", "momentum", "clip")
        common = {key: getattr(self, key) for key in keys}
        bearers = {n: g for m in CLIENT_TASKS for n, g in zip(self.names(m), self._each(m))}
        own = {key: getattr(bearers.get(name or ""), key, None) for key in OWN_TRAINING}
        return common | {key: value for key, value in own.items() if value is not None}

    def optimizers(self) -> tuple[str, ...]:
        """The optimisers that any of them has, each once."""
        return tuple(dict.fromkeys(group.optimizer or self.optimizer for group in self.groups))

    def _each(self, modality: str) -> list[ClientGroup]:
        """The group of each client of that modality, in order."""
        groups: Sequence[ClientGroup] = getattr(self, modality)
        return [g for g in groups for _ in range(g.count)]

    def arithmetic(self) -> dict[str, Any]:
        """How it computes what it trains, likewise. At a real silo the silo decides."""
        return {key: getattr(self, key) for key in ("precision", "accumulate", "checkpointing")}

    def unit(self) -> ClientsSettings:
        """The same clients, with representations of unit length."""
        groups = {str(m): tuple(g.model_copy(update={"unit": True}) for g in getattr(self, m)) for m in SINGLE_MODALITY}
        return self.model_copy(update=groups)

    def alike(self, tune: str, rank: int = 8) -> ClientsSettings:
        """The same clients, all with one model of both modalities, as large as the first one's (arch "pair")."""
        first = (*self.image, *self.text)[0]
        common = {"arch": PAIR, "tune": tune, "rank": rank}
        if first.arch not in (*PAIR_OF, PAIR):  # another architecture's weights are of no use
            common["pretrained"] = None
        elif first.arch != PAIR and first.pretrained:
            images = [g.pretrained for g in self.image if g.arch == PAIR_OF[0] and g.pretrained]
            texts = [g.pretrained for g in self.text if g.arch == PAIR_OF[1] and g.pretrained]
            common["pretrained"] = f"{images[0]}+{texts[0]}" if images and texts else None
        groups = {
            str(m): tuple(
                ClientGroup(
                    **{
                        **first.model_dump(exclude=_OF_GROUP),
                        **common,
                        "count": g.count,
                        "name": g.name,
                    }
                )
                for g in getattr(self, m)
            )
            for m in SINGLE_MODALITY
        }
        return self.model_copy(update=groups)

    def names(self, modality: str) -> list[str]:
        """One name a client of that modality, in order."""
        names = [g.name for g in self._each(modality)]
        return [name or f"{modality}-{i}" for i, name in enumerate(names)]

    def everyone(self) -> dict[str, ClientTask]:
        """All clients by name, each with its modality: whoever counts or names them starts here."""
        return {name: modality for modality in CLIENT_TASKS for name in self.names(modality)}

    def models(self, modality: str) -> list[ModelSettings]:
        """One entry a client of that modality, in order."""
        groups: Sequence[ClientGroup] = getattr(self, modality)
        return [m for g in groups for m in [ModelSettings(**g.model_dump(exclude=_OF_GROUP))] * g.count]

    @property
    def width(self) -> int:
        """d, the common representation width."""
        return self.groups[0].width
