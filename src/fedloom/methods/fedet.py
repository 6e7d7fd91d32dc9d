"""Fed-ET: heterogeneous ensemble knowledge transfer (arXiv 2204.12703). After the paper; no official code.

    down  the shared samples
    up    scores before the softmax
    down  their weighted consensus, its labels, and the scores of those who disagree

A client's weight on a sample is the variance of its scores over the classes. Open: the original trains a large server
model on the consensus (cross-entropy to its label, and a KL term to the disagreeing clients), and clients of one
architecture exchange parameters. Parameters stay at home here, so the clients themselves take the server model's loss;
`lambda_d` is from the paper's text as remembered, to be tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.messages import MOST_CLASSES
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.distillation import divergence
from fedloom.functional.ensemble import weighted_consensus
from fedloom.methods.base import Done, Method
from fedloom.methods.catch_up import recalling
from fedloom.methods.context import Inputs
from fedloom.methods.private_steps import of_shared
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_client import SharedClient
from fedloom.methods.shared_messages import ASKED, SharedLogits, SharedSettings
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, answered, needs


class FedETSettings(SharedSettings):
    """With the weight of the diversity term."""

    lambda_d: float = Field(0.05, ge=0, description="weight of the KL to the clients that disagree")


@dataclass(frozen=True)
class FedETConsensus:
    """Down: which samples somebody answered, the labels of those, and the scores of who disagrees (zero: nobody)."""

    kept: Annotated[NDArray[Any], Wire("bool", ("S",))]
    labels: Annotated[NDArray[Any], Wire("int32", ("M",), low=-1, high=MOST_CLASSES - 1)]
    diversity: Annotated[NDArray[Any], Wire("float32", ("M", "C"))]


class FedETClient(SharedClient):
    """Learns the consensus, and a little of what speaks against it."""

    settings: FedETSettings

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> SharedLogits:
        """l_k(x)."""
        return SharedLogits(logits.numpy())

    def targets(self, message: FedETConsensus, kept: Tensor) -> dict[str, Tensor]:
        """y and L_div."""
        return {
            "labels": torch.from_numpy(message.labels).long(),
            "diversity": torch.from_numpy(message.diversity),
        }

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """CE(f, y) + lambda_d KL(softmax(L_div) || softmax(f)), without the second where all agree"""
        logits = self.context.model(**views)
        loss = F.cross_entropy(logits, pool["labels"][i])
        against = pool["diversity"][i]
        apart = against.any(1)
        if self.settings.lambda_d and apart.any():
            kl = divergence(logits[apart], against[apart]).sum() / len(logits)
            loss = loss + self.settings.lambda_d * kl
        return loss


class FedETServer(SharedServer):
    """Weighs by variance."""

    formula = "fed-et"

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """alpha_k, L, y, L_div."""
        found = weighted_consensus(outputs.logits, outputs.modalities, outputs.present, self.combined)
        kept = found.labels >= 0
        targets = FedETConsensus(
            kept.numpy(), found.labels[kept].to(torch.int32).numpy(), found.diversity[kept].numpy()
        )
        return Aggregate(found.labels, dict.fromkeys(answered(outputs), targets))


def _verbs(settings: FedETSettings) -> dict[str, tuple[Any, Any]]:
    return {"infer": (ASKED, SharedLogits), "learn": (FedETConsensus, Done), **recalling(settings)}


METHOD = Method(
    "fed-et",
    FedETSettings,
    FedETClient,
    FedETServer,
    _verbs,
    needs,
    private_steps=(FedETClient, of_shared),
    needs_server="its server weighs scores by their variance over all clients",
)
