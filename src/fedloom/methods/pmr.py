"""PMR: prototypical modal rebalance for multimodal learning (CVPR 2023, arXiv 2211.07089), within FedAvg.

    down  the mean parameters of the streams that a client has data for, and the fusion head
    up    the same after private training, and the number of private samples

The slow kind of data is taught by its own prototypes c_m[j], means of its features of class j, whatever the other kind
says; the fast one is kept from settling early by the entropy of what its prototypes say:

    p_m(j | x) = softmax_j(-|h_m(x) - c_m[j]|),    rho = sum_i p_1(y_i | x_i) / sum_i p_2(y_i | x_i)       eqs. 7, 8
    slow is 2, w = clip(rho - 1, 0, 1) where rho >= 1;    slow is 1, w = clip(1 / rho - 1, 0, 1) else      eq. 11
    L = CE + alpha w mean(-log p_slow(y | x)) - mu_e w mean(H(p_fast))                                eqs. 10, 13
    c <- epsilon c + (1 - epsilon) c_new, at the beginning of a round                                      eq. 12

The entropy counts in the first `entropy_rounds` rounds. Terms beside CE are of the samples of a batch that have both
kinds; a client of one kind trains as in FedAvg. Prototypes never leave; the messages are FedAvg's.

Ours: prototypes of all the client's data (the paper: of a tenth), which is not much, by the model that it was sent, in
evaluation mode; a class that the client lacks has no part in p; w carries no gradient; an epoch of the paper is a
round. The distance without a square is the paper's and the code's (fanyunfeng-bit/Modal-Imbalance-PMR). The text is
followed where the code differs: there w is 1, and no entropy is in the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fedloom.federation.messages import Empty
from fedloom.functional.infiltration import confidence
from fedloom.methods import fedavg
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.fedavg import FedAvgAverage, FedAvgUpdate
from fedloom.methods.fedproto import class_prototypes
from fedloom.methods.multimodal_context import MultimodalContext
from fedloom.methods.state import Kept
from fedloom.models.clients.multimodal import Features, MultimodalClassifier
from fedloom.tasks import ClientTask, Modality


class PMRSettings(fedavg.FedAvgSettings):
    """FedAvg's, with the prototypes' terms."""

    alpha: float = Field(1.0, ge=0, description="weight of the slow kind's prototypes")
    mu_e: float = Field(0.01, ge=0, description="weight of the fast kind's entropy (the paper's mu)")
    entropy_rounds: int = Field(5, ge=0, description="rounds with the entropy, from the first (E_r)")
    epsilon: float = Field(0.2, ge=0, lt=1, description="share of the old prototypes in the new")


def prototype_scores(h: Tensor, prototypes: Tensor) -> Tensor:
    """-|h - c_j| (B, C) of features (B, d) and prototypes (C, d); -inf for a class whose prototype is NaN."""
    known = torch.isfinite(prototypes).all(1)
    # Not by way of a matrix product: it is inexact where h is near c.
    away = torch.cdist(h, prototypes.nan_to_num(), compute_mode="donot_use_mm_for_euclid_dist")
    return (-away).masked_fill(~known, -torch.inf)


def entropy(scores: Tensor) -> Tensor:
    """H (B,) of softmax(scores) (B, C), in nats; classes at -inf have no part."""
    known = torch.isfinite(scores)
    log = scores.log_softmax(1).masked_fill(~known, 0.0)
    return -(log.exp().masked_fill(~known, 0.0) * log).sum(1)


def slow_kind(first: Tensor, second: Tensor) -> tuple[int, float]:
    """Which of two kinds is slow, 0 or 1, and w, of their confidences (B,) in the right classes (eqs. 8, 11)."""
    a, b = max(float(first.sum()), 1e-8), max(float(second.sum()), 1e-8)
    return (1, min(a / b - 1, 1.0)) if a >= b else (0, min(b / a - 1, 1.0))


class PMRClient(fedavg.FedAvgClient):
    """FedAvg's, with prototypes."""

    settings: PMRSettings
    prototypes: Kept[dict[Modality, Tensor]]  # (C, d); NaN for a class that the client lacks

    def __init__(self, context: ClientContext, settings: PMRSettings) -> None:
        super().__init__(context, settings)
        self.prototypes = {}

    def fit(self, message: FedAvgAverage | Empty, *, round: int) -> FedAvgUpdate:
        """Private steps from the average, with its prototypes."""
        if isinstance(message, FedAvgAverage):
            self.take(message.parameters)
        s = self.settings
        weight = s.mu_e if round <= s.entropy_rounds else 0.0
        rebalances = bool(s.alpha or weight) and bool(self.context.private["present"].all(1).any())
        if rebalances:
            self._renew()
        loss = self.steps(self._rebalanced(weight) if rebalances else self.objective(), round)
        return FedAvgUpdate(self.parameters(), len(self.context.private_labels), loss)

    def _renew(self) -> None:
        """c of both kinds, by the model that was just received."""
        context, epsilon = cast(MultimodalContext, self.context), self.settings.epsilon
        model = cast(MultimodalClassifier, context.model)
        h = context.stream_features(context.private)
        for i, kind in enumerate(model.kinds):
            there = context.private["present"][:, i]
            new, _ = class_prototypes(h[kind][there], context.private_labels[there], model.classes)
            old = self.prototypes.get(kind, new)
            self.prototypes[kind] = epsilon * old + (1 - epsilon) * new

    def _rebalanced(self, weight: float) -> Callable[[Inputs, Tensor], Tensor]:
        """L of a batch; weight: of the entropy."""
        context, model, distance = self.context, cast(MultimodalClassifier, self.context.model), self.proximal()

        def objective(inputs: Inputs, index: Tensor) -> Tensor:
            labels, present = context.private_labels[index], inputs["present"]
            h = model.features(**inputs)
            loss = F.cross_entropy(model.classify(model.joined(h, present)), labels)
            both = present.all(1)
            if both.any():
                loss = loss + self._balance({m: v[both] for m, v in h.items()}, labels[both], weight)
            return loss if distance is None else loss + distance()

        return objective

    def _balance(self, h: Features, labels: Tensor, weight: float) -> Tensor:
        """What L adds to CE, of samples that have both kinds."""
        kinds = cast(MultimodalClassifier, self.context.model).kinds
        scores = [prototype_scores(h[kind], self.prototypes[kind]) for kind in kinds]
        slow, w = slow_kind(*(confidence(x.detach(), labels) for x in scores))
        taught = F.cross_entropy(scores[slow], labels)
        return w * (self.settings.alpha * taught - weight * entropy(scores[1 - slow]).mean())


METHOD = replace(
    fedavg.METHOD,
    name="pmr",
    settings=PMRSettings,
    client=PMRClient,
    tasks=frozenset({ClientTask.MULTIMODAL_CLASSIFICATION}),
)
