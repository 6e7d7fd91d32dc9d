"""FedMEKT: multimodal embedding knowledge transfer (arXiv 2307.13214).

    down  the shared samples
    up    representations (and, for a generator, labels)
    down  the mean representation of each sample

Clients train on their own data and, in the same steps, draw their representations e_k of the shared samples towards
the mean:

    L = L_own + a T^2 KL(softmax(mean / T) || softmax(e_k / T))

The paper's: representations up, joint ones down, a loss of one's own plus the transfer. The code's (Agent2H/FedMEKT):
the T^2, T = 3, a = 0.1, both in one step, a plain mean over the clients of a modality.

Ours: the original is semi-supervised, with auto-encoders; its reconstruction loss is cross-entropy on private data
here. Its server trains an encoder on the means and sends that one's representations, of two layers (a, and b = 0.04);
here the means of the last layer themselves are sent, as clients of unlike models share no encoder. The mean is over all
clients, or, with `balance`, of the two modalities' means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.distillation import softened
from fedloom.functional.ensemble import within
from fedloom.functional.fusion import mean_over
from fedloom.methods.base import Done, Method
from fedloom.methods.catch_up import recalling
from fedloom.methods.context import Inputs
from fedloom.methods.gossip import answers, public_samples
from fedloom.methods.graph import Peers
from fedloom.methods.private_steps import beside_shared
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.robust import weighed
from fedloom.methods.shared_client import SharedClient
from fedloom.methods.shared_messages import (
    ASKED,
    LabelledRepresentations,
    SharedRepresentations,
    SharedSettings,
)
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, answered, labels_of, majority, needs


class FedMEKTSettings(SharedSettings):
    """With the weight and the temperature of the transfer."""

    kl_weight: float = Field(0.1, ge=0, description="a, weight of the embedding transfer")
    kl_temperature: float = Field(3.0, gt=0, description="of both softmaxes over the D components")
    balance: bool = Field(False, description="mean of the modalities' means, in place of all clients'")


@dataclass(frozen=True)
class FedMEKTMean:
    """Down: which samples somebody answered, and the mean representations of those."""

    kept: Annotated[NDArray[Any], Wire("bool", ("S",))]
    representations: Annotated[NDArray[Any], Wire("float32", ("M", "D"))]


class FedMEKTClient(SharedClient):
    """Private data and embedding transfer, in the same steps."""

    settings: FedMEKTSettings

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> LabelledRepresentations | SharedRepresentations:
        """e_k(x_i), with the label where a generator is to be tuned."""
        if self.settings.shared == "public":
            return SharedRepresentations(torch.nan_to_num(z).numpy())
        return LabelledRepresentations(torch.nan_to_num(z).numpy(), labels_of(logits))

    def targets(self, message: FedMEKTMean, kept: Tensor) -> dict[str, Tensor]:
        """The mean."""
        return {"mean": torch.from_numpy(message.representations)}

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """CE on private data + a T^2 KL(softmax(mean / T) || softmax(e_k / T))"""
        context, s = self.context, self.settings
        private = self.private_loss(len(i))
        z = context.model.encode(**views)  # type: ignore[operator]
        return private + s.kl_weight * softened(z, pool["mean"][i], s.kl_temperature)


class FedMEKTServer(SharedServer):
    """Averages."""

    settings: FedMEKTSettings
    formula = "fedmekt"

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """The mean over clients; labels by unweighted majority."""
        present = outputs.present
        if not len(present):
            return Aggregate(torch.full((len(samples),), -1), {})
        if self.settings.balance:
            mean = self.combined(outputs.representations, within(self.says(outputs), outputs.modalities, present))
        elif self.say is not None:  # a peer's
            mean = weighed(self.settings, outputs.representations, self.says(outputs))[0]
        elif self.settings.aggregate == "mean":
            mean = mean_over(outputs.representations, present)
        else:
            mean = self.combined(outputs.representations, present.float())
        kept = present.any(0)
        labels = majority(outputs, len(self.context.class_names), samples.labels)
        targets = FedMEKTMean(kept.numpy(), mean[kept].numpy())
        return Aggregate(labels, dict.fromkeys(answered(outputs), targets), mean[labels >= 0])


def _verbs(settings: FedMEKTSettings) -> dict[str, tuple[Any, Any]]:
    answer = SharedRepresentations if settings.shared == "public" else LabelledRepresentations
    return {"infer": (ASKED, answer), "learn": (FedMEKTMean, Done), **recalling(settings)}


METHOD = Method(
    "fedmekt",
    FedMEKTSettings,
    FedMEKTClient,
    FedMEKTServer,
    _verbs,
    needs,
    private_steps=(FedMEKTClient, beside_shared),
    peers=Peers(FedMEKTServer, answers, moves=True, refuses=public_samples),
)
