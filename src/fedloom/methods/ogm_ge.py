"""OGM-GE: balanced multimodal learning via on-the-fly gradient modulation (CVPR 2022, arXiv 2203.15332), within FedAvg.

    down  the mean parameters of the streams that a client has data for, and the fusion head
    up    the same after private training, and the number of private samples

Where one kind of data explains a batch better, its stream is slowed down so that the other can catch up; noise of the
gradient's own size makes up for what is lost of the steps' randomness:

    s_m = sum_i softmax(o_m(x_i))[y_i],    rho_m = s_m / s_other,    k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1
                                                       o_m = W_m h_m + b / 2
    g_m <- k_m g_m + xi,    xi ~ N(0, deviation(g_m)^2)

s is of the samples of a batch that have both kinds; a batch without such samples, and so a client of one kind, is left
alone. The messages are FedAvg's.

The code's (GeWu-Lab/OGM-GE_CVPR2022): half of the bias in each stream's scores; at a tie (rho = 1), where the formula
slows nobody, the first kind is slowed (there: sound), by 1 - tanh(alpha); the deviation is of one tensor's gradient
before it is slowed, and both streams are noised.

Ours: the code knows a stream's scores of a sum and of a concatenation; of other fusions they are the head's beside
zeros, with the whole bias. A sum has one bias here and two there. Modulated and noised are the streams' weights of two
axes or more: the code does so to convolutions, of which a stream of texts has none; biases and normalisation are left
alone in both. Gradients are clipped afterwards. AdamW divides a factor on the gradient out again: SGD only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fedloom.federation.messages import Empty
from fedloom.functional.infiltration import confidence
from fedloom.methods import fedavg
from fedloom.methods.context import Inputs
from fedloom.methods.fedavg import FedAvgAverage, FedAvgUpdate
from fedloom.models.clients.fusion_heads import Concat, Sum
from fedloom.models.clients.multimodal import Features, MultimodalClassifier, group_of
from fedloom.tasks import ClientTask, Modality


class OGMGESettings(fedavg.FedAvgSettings):
    """FedAvg's, with the modulation."""

    alpha: float = Field(0.8, ge=0, description="how strongly the dominant kind is slowed; 0: not at all")
    noise: bool = Field(True, description="noise on the modulated gradients (GE)")
    starts: int = Field(1, ge=1, description="first round with modulation")
    ends: int | None = Field(None, ge=1, description="last round with modulation; none: it goes on")


def coefficients(first: Tensor, second: Tensor, alpha: float) -> tuple[float, float]:
    """(k_1, k_2) of the confidences (B,) of both kinds in the right classes: one is 1. A tie slows the first."""
    a, b = float(first.sum()), float(second.sum())
    slowed = 1 - math.tanh(alpha * max(a, b) / max(min(a, b), 1e-8))
    return (1.0, slowed) if b > a else (slowed, 1.0)


def stream_scores(model: MultimodalClassifier, kind: Modality, h: Tensor) -> Tensor:
    """o_m (B, C) of one stream's features h (B, d): what it adds to the scores, and half of the bias."""
    fusion, scores = model.fusion, model.own(kind, h)
    if isinstance(fusion, Concat):
        return scores - fusion.out.bias / 2
    return scores - fusion.x.bias / 2 if isinstance(fusion, Sum) else scores


class OGMGEClient(fedavg.FedAvgClient):
    """FedAvg's, with modulated gradients."""

    settings: OGMGESettings

    def fit(self, message: FedAvgAverage | Empty, *, round: int) -> FedAvgUpdate:
        """Private steps from the average."""
        s = self.settings
        if round < s.starts or (s.ends is not None and round > s.ends):
            return super().fit(message, round=round)
        if isinstance(message, FedAvgAverage):
            self.take(message.parameters)
        modulation = _Modulation(self, round)
        loss = self.steps(modulation.objective, round, modulation.adjust)
        return FedAvgUpdate(self.parameters(), len(self.context.private_labels), loss)


class _Modulation:
    """The loss of a round's batches, which notes each batch's coefficients, and what it does to gradients with them."""

    def __init__(self, client: OGMGEClient, round: int) -> None:
        self.context, self.s = client.context, client.settings
        self.model = cast(MultimodalClassifier, client.context.model)
        self.distance: Callable[[], Tensor] | None = client.proximal()
        self.draws = client.context.draws(round, "modulation")
        self.k: dict[Modality, float] = {}  # of this batch; none where it has no sample of both kinds

    def objective(self, inputs: Inputs, index: Tensor) -> Tensor:
        """Cross-entropy of a batch."""
        labels, present = self.context.private_labels[index], inputs["present"]
        h = self.model.features(**inputs)
        both = present.all(1)
        self.k = self._coefficients({m: v[both] for m, v in h.items()}, labels[both]) if both.any() else {}
        loss = F.cross_entropy(self.model.classify(self.model.joined(h, present)), labels)
        return loss if self.distance is None else loss + self.distance()

    @torch.no_grad()
    def _coefficients(self, h: Features, labels: Tensor) -> dict[Modality, float]:
        first, second = (confidence(stream_scores(self.model, m, h[m]), labels) for m in self.model.kinds)
        return dict(zip(self.model.kinds, coefficients(first, second, self.s.alpha)))

    def adjust(self) -> None:
        """g <- k g + xi, of the streams' weights."""
        for name, p in self.model.named_parameters():
            kind = group_of(name)
            if kind in self.k and p.grad is not None and p.ndim >= 2:
                self._modulate(p, p.grad, self.k[kind])

    def _modulate(self, p: nn.Parameter, grad: Tensor, k: float) -> None:
        deviation = grad.std() if self.s.noise and grad.numel() > 1 else None
        grad.mul_(k)
        if deviation is not None:
            # Drawn row by row, so that it is the same in any memory layout of the weight.
            grad.add_(deviation * torch.randn(p.shape, generator=self.draws).to(grad.device))


METHOD = replace(
    fedavg.METHOD,
    name="ogm-ge",
    settings=OGMGESettings,
    client=OGMGEClient,
    optimizers=("sgd",),
    tasks=frozenset({ClientTask.MULTIMODAL_CLASSIFICATION}),
)
