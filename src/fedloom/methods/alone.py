"""What FedMMKT is compared with at either end: clients that learn alone, generators that are tuned without clients.

Standalone: each client trains on its own data only. Self-fine-tuning: the generator is tuned on its own pictures, all
of them, with the labels it was asked for (three kinds of data). Centralised: the generator is tuned on the pooled real
pictures of the clients, which no federation would allow: an upper bound. Nothing crosses a wire in any of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from fedloom.config.models import Frozen
from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.methods.base import Client, Info, LabelInfo, Method, Server, ServerContext, TrainOrder
from fedloom.methods.state import Kept
from fedloom.methods.tuning import Tuner, TuningSettings
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


class _TunedServer(Server):
    tuner: Kept[Tuner]


class SelfFinetuneServer(_TunedServer):
    """A generator tuned on what it draws itself: no votes, no filter, no clients."""

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
        images = context.generator.synthesize([context.prompts[c] for c in drawn], context.draws(t, "synthesis"))
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
        self.tuner.add(images, torch.from_numpy(drawn), captions, vectors)
        loss = self.tuner.tune(t)
        kept = np.ones(len(drawn), dtype=np.bool_)
        return Info(LabelInfo(images, tuple(captions), drawn, drawn, kept), {"generator": loss})


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
)
SELF_FINETUNE = Method(
    "self-finetune",
    SelfFinetuneSettings,
    Client,
    SelfFinetuneServer,
    _no_verbs,
    frozenset({"generator", "captioner", "features"}),
    tasks=frozenset(),
)
CENTRALISED = Method(
    "centralised",
    TuningSettings,
    Client,
    CentralisedServer,
    _no_verbs,
    frozenset({"generator", "real"}),
    tasks=frozenset(),
)
