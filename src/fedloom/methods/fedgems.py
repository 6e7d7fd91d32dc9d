"""FedGEMS: federated learning of larger server models via selective knowledge fusion (arXiv 2110.11027).

    down  the shared samples, and which of them are asked about
    up    scores before the softmax, of those the server's model gets wrong
    down  the server's scores, and the samples' labels

After the paper; no official code. The server trains a classifier of its own on the shared samples, whose labels it
knows (of synthetic ones the class of the prompt, of public ones the true class). A sample that it gets right it learns
by cross-entropy, and stores its scores. One that it gets wrong it learns from its stored scores too; if there are none,
from the clients that are right, weighted by inverse entropy; if nobody is right, from the label alone.

Ours: a server model for each modality, of the largest client architecture; which of the cases a sample falls into is
found once, when its answers come, and holds as long as the sample lies in the pool. The generator is tuned on the label
that stored or ensemble scores of all modalities give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.messages import MOST_CLASSES
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.distillation import divergence
from fedloom.functional.ensemble import knowing_weights
from fedloom.methods.base import Done, Method, ServerContext
from fedloom.methods.catch_up import recalling
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.private_steps import of_shared
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_client import INPUTS, SharedClient
from fedloom.methods.shared_messages import ASKED, SharedLogits, SharedSettings
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, needs
from fedloom.methods.state import Kept
from fedloom.methods.tuning import ReplayPool
from fedloom.methods.workload import Workload
from fedloom.tasks import ClientTask


class FedGEMSSettings(SharedSettings):
    """With the say of the label, and the server model's steps."""

    epsilon: float = Field(
        0.75, ge=0, le=1, description="share of cross-entropy to the label; the rest is the KL to the teacher"
    )
    server_steps: int = Field(40, ge=0, description="steps of the server's classifiers a round")


@dataclass(frozen=True)
class FedGEMSTargets:
    """Down: the server's scores and the labels of all samples; kept: all."""

    kept: Annotated[NDArray[Any], Wire("bool", ("S",))]
    labels: Annotated[NDArray[Any], Wire("int32", ("M",), low=-1, high=MOST_CLASSES - 1)]
    scores: Annotated[NDArray[Any], Wire("float32", ("M", "C"))]


def blend(logits: Tensor, labels: Tensor, teacher: Tensor, taught: Tensor, epsilon: float) -> Tensor:
    """Mean over the batch of CE where nobody teaches, and of eps CE + (1 - eps) KL(teacher || student) elsewhere.

    logits, teacher: (B, C), before the softmax; labels: (B,); taught: bool (B,).
    """
    known = F.cross_entropy(logits, labels, reduction="none")
    kl = divergence(logits, teacher)
    return torch.where(taught, epsilon * known + (1 - epsilon) * kl, known).mean()


class FedGEMSClient(SharedClient):
    """Learns from the server's model."""

    settings: FedGEMSSettings

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> SharedLogits:
        """l_k(x), of the samples that the server asked about."""
        return SharedLogits(logits.numpy())

    def targets(self, message: FedGEMSTargets, kept: Tensor) -> dict[str, Tensor]:
        """y and f_S(x)."""
        return {
            "labels": torch.from_numpy(message.labels).long(),
            "scores": torch.from_numpy(message.scores),
        }

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """eps CE(f_k, y) + (1 - eps) KL(f_S || f_k)"""
        taught = torch.ones(len(i), dtype=torch.bool)
        logits = self.context.model(**views)
        return blend(logits, pool["labels"][i], pool["scores"][i], taught, self.settings.epsilon)


class FedGEMSServer(SharedServer):
    """A classifier for each modality, and what it knows of each sample."""

    settings: FedGEMSSettings
    models: Kept[dict[ClientTask, ClientContext]]
    pools: Kept[dict[ClientTask, ReplayPool]]
    stored: Kept[dict[ClientTask, Tensor]]  # of a public set: scores of when it was right, else NaN
    formula = "fedgems"

    @classmethod
    def workload(cls, settings: FedGEMSSettings, batch: int) -> Workload:  # type: ignore[override]
        """With the steps of the server's own models."""
        return replace(super().workload(settings, batch), server_steps=settings.server_steps)

    def __init__(self, context: ServerContext, settings: FedGEMSSettings) -> None:
        super().__init__(context, settings)
        if context.models is None:
            raise BadInput("FedGEMS needs models on the server, and this run has none")
        self.models = {m: context.models(m) for m in context.modalities}
        rounds = settings.replay_rounds if settings.shared == "synthetic" else 1
        self.pools = {m: ReplayPool(rounds) for m in self.models}
        self.stored = {}

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """Selective fusion, modality by modality."""
        labels = torch.from_numpy(samples.labels)
        losses: dict[str, float | None] = {}
        messages: dict[str, FedGEMSTargets] = {}
        taught = []
        for m, context in self.models.items():
            inputs = context.inputs(samples.images if m == ClientTask.IMAGE_CLASSIFICATION else samples.texts)
            own = _scores(context, inputs)
            right = own.argmax(1) == labels
            stored = self.stored.get(m, torch.full_like(own, torch.nan))
            stored = torch.where(right[:, None], own, stored)
            if self.settings.shared == "public":
                self.stored[m] = stored
            has = torch.isfinite(stored).all(1)
            ensemble, known = self._ensemble(outputs, m, labels)
            teacher = torch.where(has[:, None], stored.nan_to_num(), ensemble)
            guided = ~right & (has | known)
            taught.append(torch.where((has | known)[:, None], teacher, own).softmax(1))
            self.pools[m].add({**inputs, "labels": labels, "teacher": teacher, "taught": guided})
            losses[f"server {m}"] = self._train(m, t)
            message = FedGEMSTargets(
                np.ones(len(samples), dtype=np.bool_),
                samples.labels.astype(np.int32),
                _scores(context, inputs).numpy(),
            )
            messages |= {r.client: message for r in outputs.replies if r.modality == m}
        return Aggregate(torch.stack(taught).mean(0).argmax(1), messages, losses=losses)

    def ask(
        self,
        federation: Federation,
        samples: SharedSamples,
        wanted: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> ClientOutputs:
        """Only about samples that the model of the clients' modality gets wrong and has no stored scores of."""
        labels, masks = torch.from_numpy(samples.labels), {}
        for m, context in self.models.items():
            own = _scores(
                context, context.inputs(samples.images if m == ClientTask.IMAGE_CLASSIFICATION else samples.texts)
            )
            has = torch.isfinite(self.stored[m]).all(1) if m in self.stored else torch.zeros(len(labels)).bool()
            masks[str(m)] = ((own.argmax(1) != labels) & ~has).numpy()
        replies = self.question(federation, samples, masks)
        return ClientOutputs.scattered(replies, masks, len(self.context.class_names))

    def _ensemble(self, outputs: ClientOutputs, m: ClientTask, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of those of modality m that are right, (S, C), and whether there is one, (S,)."""
        own = [k for k, modality in enumerate(outputs.modalities) if modality == m]
        logits, present = outputs.logits[own], outputs.present[own]
        weights = knowing_weights(logits, labels, present)
        return self.combined(logits, weights), (weights > 0).any(0)

    def _train(self, m: ClientTask, t: int) -> float | None:
        """The steps of the server's model on its pool."""
        context, s, pool = self.models[m], self.settings, self.pools[m].samples()
        inputs = {key: pool[key] for key in pool if key in INPUTS}

        def loss(views: Inputs, i: Tensor) -> Tensor:
            return blend(context.model(**views), pool["labels"][i], pool["teacher"][i], pool["taught"][i], s.epsilon)

        steps = s.steps_on(len(pool["labels"]), s.server_steps, context.batch)
        return context.fit(inputs, steps, loss, t, "fusion")


def _scores(context: ClientContext, inputs: Inputs) -> Tensor:
    return context.look(inputs)[1]


def _verbs(settings: FedGEMSSettings) -> dict[str, tuple[Any, Any]]:
    return {"infer": (ASKED, SharedLogits), "learn": (FedGEMSTargets, Done), **recalling(settings)}


METHOD = Method(
    "fedgems",
    FedGEMSSettings,
    FedGEMSClient,
    FedGEMSServer,
    _verbs,
    lambda settings: needs(settings) | {"models"},
    private_steps=(FedGEMSClient, of_shared),
    needs_server="its server trains classifiers of its own",
)
