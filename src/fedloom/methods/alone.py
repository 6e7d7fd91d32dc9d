"""What FedMMKT is compared with at either end: clients that learn alone, generators that are tuned without clients.

Standalone: each client trains on its own data only. Self-fine-tuning: the generator is tuned on its own pictures, with
the labels it was asked for (three kinds of data), or with those that the server's own CLIP gives them: whatever a
federation adds must be above this. Centralised: the generator is tuned on the pooled real
pictures of the clients, which no federation would allow: an upper bound. Nothing crosses a wire in any of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedloom.config.models import Frozen
from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.methods.base import Client, Info, LabelInfo, Method, Server, ServerContext, TrainOrder
from fedloom.methods.private_steps import alone
from fedloom.methods.shared_messages import TuningSettings
from fedloom.methods.state import Kept
from fedloom.methods.tuning import Tuner
from fedloom.methods.workload import Workload
from fedloom.tasks import ClientTask


class StandaloneSettings(Frozen):
    """How long clients train alone."""

    private_steps: int = Field(10, ge=0, description="private steps a round (E_loc)")
    extra_steps: int = Field(40, ge=0, description="more private steps: what others spend on shared samples")


class StandaloneServer(Server):
    """No server at all: only tells the clients that a round has begun."""

    settings: StandaloneSettings

    @classmethod
    def workload(cls, settings: StandaloneSettings, batch: int) -> Workload:
        """Private steps."""
        return Workload(private_steps=settings.private_steps + settings.extra_steps)

    def round(self, federation: Federation) -> Info:
        """Private steps at every client, as many as the methods it is compared with take in all."""
        order = TrainOrder(self.settings.private_steps + self.settings.extra_steps)
        replies = federation.ask("train", order, timeout=self.context.timeout)
        loss = {r.client: r.message.loss for r in replies if r.ok}
        return Info(losses={"clients": float(np.mean([loss[k] for k in sorted(loss)])) if loss else None})


class SelfFinetuneSettings(TuningSettings):
    """Which data of its own the generator is tuned on (FedMMKT, Table II)."""

    data: Literal["prompt", "caption", "representation"] = Field(
        "prompt",
        description="text: class prompt or caption; or class prompt and a frozen picture encoder's vector",
    )
    labels: Literal["drawn", "clip"] = Field(
        "drawn", description="classes of the pictures: as prompted, or as the server's own CLIP sees them"
    )
    unsure: float = Field(0.0, ge=0, lt=1, description="share of the pictures left out: CLIP is least sure of them")

    @model_validator(mode="after")
    def _sure(self) -> SelfFinetuneSettings:
        if self.unsure and self.labels == "drawn":
            raise ValueError(f"unsure = {self.unsure} goes by the server's CLIP, allowed with labels = drawn: 0")
        return self


class _TunedServer(Server):
    tuner: Kept[Tuner]


class SelfFinetuneServer(_TunedServer):
    """A generator tuned on what it draws itself, with no client: labels by its prompts, or by the server's own CLIP."""

    settings: SelfFinetuneSettings

    @classmethod
    def workload(cls, settings: SelfFinetuneSettings, batch: int) -> Workload:
        """Synthesis and tuning."""
        return replace(settings.workload(), private_steps=0, captions=settings.data == "caption")

    def __init__(self, context: ServerContext, settings: SelfFinetuneSettings) -> None:
        text: Literal["caption", "prompt"] = "caption" if settings.data == "caption" else "prompt"
        super().__init__(context, settings.model_copy(update={"train_text": text}))
        self.tuner = Tuner(context, self.settings)

    def round(self, federation: Federation) -> Info:
        """Draw S samples by class and go on training on the pool."""
        t, s, context = federation.round, self.settings, self.context
        classes = len(context.class_names)
        drawn = context.rng(t, "classes").permutation(np.arange(s.samples) % classes).astype(np.int64)
        images = self.tuner.draw([context.prompts[c] for c in drawn], context.draws(t, "synthesis"))
        captions = context.captioner.caption(images) if s.data == "caption" else ()
        vectors = None
        if s.data == "representation":
            if context.features is None:
                raise BadInput("settings.data = 'representation' needs a frozen picture encoder on the server")
            vectors = context.features(images)
            if vectors.shape[1] != context.width:
                raise BadInput(
                    f"the picture encoder gives {vectors.shape[1]} numbers, the clients' width is {context.width}"
                )
        labels, kept = self._labels(images, torch.from_numpy(drawn))
        said = [captions[i] for i in torch.where(kept)[0]] if captions else ()
        self.tuner.add(images[kept.numpy()], labels[kept], said, None if vectors is None else vectors[kept])
        loss = self.tuner.tune(t)
        return Info(LabelInfo(images, tuple(captions), drawn, labels.numpy(), kept.numpy()), {"generator": loss})

    def _labels(self, images: NDArray[np.uint8], drawn: Tensor) -> tuple[Tensor, Tensor]:
        """The classes (S,) that the pictures go by, and bool (S,), which are tuned on."""
        if self.settings.labels == "drawn":
            return drawn, torch.ones_like(drawn, dtype=torch.bool)
        assert self.context.classify is not None  # by `needs`
        sure, labels = self.context.classify(images).max(1)
        return labels, sure >= sure.quantile(self.settings.unsure)


class CentralisedServer(_TunedServer):
    """A generator tuned on the clients' real pictures, pooled."""

    settings: TuningSettings

    @classmethod
    def workload(cls, settings: TuningSettings, batch: int) -> Workload:
        """Tuning on real pictures."""
        return Workload(generator_steps=settings.tune_steps, generator_batch=settings.tune_batch)

    def __init__(self, context: ServerContext, settings: TuningSettings) -> None:
        super().__init__(context, settings)
        if context.real is None:
            raise BadInput("centralised tuning needs real pictures, and this data set has none for clients")
        self.tuner = Tuner(context, settings.model_copy(update={"replay_rounds": 1, "train_text": "prompt"}))
        self.tuner.add(context.real.images, torch.from_numpy(context.real.labels.copy()), (), None)

    def round(self, federation: Federation) -> Info:
        """As many steps as every other method takes."""
        return Info(losses={"generator": self.tuner.tune(federation.round)})


def _no_verbs(settings: Frozen) -> dict[str, tuple[type, type]]:
    return {}


STANDALONE = Method(
    "standalone",
    StandaloneSettings,
    Client,
    StandaloneServer,
    _no_verbs,
    tasks=frozenset(ClientTask),
    label_space="per task",
    private_steps=(Client, alone),
    needs_server="its clients send nothing to anybody",
)
SELF_FINETUNE = Method(
    "self-finetune",
    SelfFinetuneSettings,
    Client,
    SelfFinetuneServer,
    _no_verbs,
    lambda settings: settings.tools("generator", "captioner", "features", "classify"),
    tasks=frozenset(),
    needs_server="it is a server on its own",
)
CENTRALISED = Method(
    "centralised",
    TuningSettings,
    Client,
    CentralisedServer,
    _no_verbs,
    lambda settings: settings.tools("generator", "real"),
    tasks=frozenset(),
    needs_server="it is a server on its own",
)
