"""FedMD: heterogeneous federated learning via model distillation (arXiv 1910.03581).

    down  the shared samples
    up    scores before the softmax
    down  their mean

The server has no model. Clients digest (fit the mean of all scores, by mean absolute error), then revisit (train on
their own data). The error and the plain mean are those of the authors' code (diogenes0319/FedMD_clean).

Ours: with two modalities the mean is taken within each, then of the two; every round shares all samples of the set,
where the paper draws a subset; clients start from the warm start that all methods share, where the paper trains to
convergence first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.ensemble import within
from fedloom.methods.base import Done, Method
from fedloom.methods.catch_up import recalling
from fedloom.methods.context import Inputs
from fedloom.methods.gossip import answers, public_samples
from fedloom.methods.graph import Peers
from fedloom.methods.private_steps import of_shared
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_client import SharedClient
from fedloom.methods.shared_messages import ASKED, SharedLogits, SharedSettings
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, answered, needs


@dataclass(frozen=True)
class FedMDConsensus:
    """Down: which samples somebody answered, and the mean scores of those."""

    kept: Annotated[NDArray[Any], Wire("bool", ("S",))]
    scores: Annotated[NDArray[Any], Wire("float32", ("M", "C"))]


def distance(scores: Tensor, consensus: Tensor) -> Tensor:
    """Mean absolute error over all elements of scores before the softmax, both (B, C)."""
    return (scores - consensus).abs().mean()


class FedMDClient(SharedClient):
    """Digest, then revisit."""

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> SharedLogits:
        """f_k(x_i)."""
        return SharedLogits(logits.numpy())

    def targets(self, message: FedMDConsensus, kept: Tensor) -> dict[str, Tensor]:
        """L_i."""
        return {"scores": torch.from_numpy(message.scores)}

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """mean |f_k(x_i) - L_i|"""
        return distance(self.context.model(**views), pool["scores"][i])


class FedMDServer(SharedServer):
    """Averages."""

    formula = "fedmd"

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """L_i = mean over k of l_i^k, or what `aggregate` says in place of the mean."""
        weights = within(self.says(outputs), outputs.modalities, outputs.present)
        scores = self.combined(outputs.logits, weights)
        kept = outputs.present.any(0)
        targets = FedMDConsensus(kept.numpy(), scores[kept].numpy())
        labels = scores.argmax(1).masked_fill(~kept, -1)
        return Aggregate(labels, dict.fromkeys(answered(outputs), targets))


def _verbs(settings: SharedSettings) -> dict[str, tuple[Any, Any]]:
    return {"infer": (ASKED, SharedLogits), "learn": (FedMDConsensus, Done), **recalling(settings)}


METHOD = Method(
    "fedmd",
    SharedSettings,
    FedMDClient,
    FedMDServer,
    _verbs,
    needs,
    private_steps=(FedMDClient, of_shared),
    peers=Peers(FedMDServer, answers, moves=True, refuses=public_samples),
)
