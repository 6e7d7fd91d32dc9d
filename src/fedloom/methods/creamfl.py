"""CreamFL: multimodal federated learning via contrastive representation ensemble (arXiv 2302.08888).

    down  the shared samples
    up    representations (and, for a generator, labels)
    down  two global representations of each sample, one of its picture and one of its text

Clients: private data, then on shared samples an inter-modal contrast (towards the global representation of the other
modality) and an intra-modal one (towards that of their own, away from what they said themselves before):

    L_own = CE(o - m at the true class, y) + c CE(V V^T, own class),    V = relu(W) of the head
    L = L_own + 0.5 (L_inter + L_intra)

Server: clients weighed by how well they pick the sample's other modality among all samples. With a public set the
server has an encoder for each modality, trained on its pairs by contrast and towards the weighted representations; what
it then sees is global. With synthetic samples, which are new in each round, the weighted representations themselves
are, and the clients of the other modality, on average, what they are weighed against.

The paper's: both contrasts, the weights, the distillation. The code's (FLAIR-THU/CreamFL): the margin m = 4 and the
spread of the classes c = 0.5, which the paper does not name; temperatures 0.5 and 1, weights 0.5 and 0.3; j = k in the
scores' denominator.

Ours: both contrasts and the private loss in the same steps (`together`). The code passes over private and shared data
in turns, five times a round and at far smaller rates; forty contrast steps in a row at our rate let representations run
away from the head (accuracy fell from 0.67 to 0.30 in the first round). Cosines, where the code has vectors of unit
length, and the distance at the server is between representations as they are; the head's own weights are left as they
are, where the code sets negative ones to 0 before each batch; a pass over shared samples is `retrain_steps` steps on
the pool; with one modality there is no inter-modal term, and clients are weighed against their own mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.messages import Empty
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.contrast import contrast_weights, symmetric_infonce
from fedloom.functional.fusion import mean_over
from fedloom.functional.matching import class_spread, margin_cross_entropy
from fedloom.functional.norms import unit
from fedloom.methods.base import Done, Method, ServerContext
from fedloom.methods.catch_up import MissedRound, recalling
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.methods.private_steps import of_creamfl
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_client import SharedClient
from fedloom.methods.shared_messages import (
    ASKED,
    LabelledRepresentations,
    SharedRepresentations,
    SharedSettings,
)
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, answered, labels_of, majority, needs
from fedloom.methods.state import Kept
from fedloom.methods.workload import Workload
from fedloom.models.fit import adamw, fit, index_batches
from fedloom.seeding import global_torch_stream
from fedloom.tasks import SINGLE_MODALITY, ClientTask

Array = NDArray[Any]


class CreamFLSettings(SharedSettings):
    """Weights and temperatures of both sides."""

    margin: float = Field(4.0, ge=0, description="m, what the true class's logit is lowered by in private batches")
    spread: float = Field(0.5, ge=0, description="c, weight of the term that spreads the classes' weights")
    contrast_weight: float = Field(0.5, ge=0, description="of L_inter + L_intra at the clients")
    contrast_temperature: float = Field(0.5, gt=0, description="of both")
    together: bool = Field(
        True,
        description="each shared step also has a private batch; false: contrasts alone, after the private steps",
    )
    weigh_temperature: float = Field(1.0, gt=0, description="of the clients' scores at the server")
    server_steps: int = Field(40, ge=0, description="steps of the server's encoders a round (public set)")
    server_weight: float = Field(
        0.3, ge=0, description="of the distance to the weighted representations, at the server"
    )
    server_rate: float = Field(2e-3, gt=0, description="AdamW's rate of the server's encoders")
    server_temperature: float = Field(0.07, gt=0, description="of the contrast between the server's encoders")


@dataclass(frozen=True)
class CreamFLGlobals:
    """Down: which samples somebody answered, and G^I and G^T of those. None: no client of that modality."""

    kept: Annotated[Array, Wire("bool", ("S",))]
    image: Annotated[Array, Wire("float32", ("M", "D"))] | None = None
    text: Annotated[Array, Wire("float32", ("M", "D"))] | None = None


def inter_contrast(z: Tensor, anchors: Tensor, own: Tensor, temperature: float) -> Tensor:
    """-log of the softmax over all anchors (N, D) of cos(z_i, .) / tau, at the sample's own: z (B, D), own (B,)."""
    return F.cross_entropy(unit(z) @ unit(anchors).T / temperature, own)


def intra_contrast(z: Tensor, target: Tensor, old: Tensor, temperature: float) -> Tensor:
    """-log of the softmax over {target_i, old_i} of cos(z_i, .) / tau, at the target; all (B, D)."""
    near = (unit(z) * unit(target)).sum(1)
    far = (unit(z) * unit(old)).sum(1)
    return F.softplus((far - near) / temperature).mean()


class CreamFLClient(SharedClient):
    """Private data, and both contrasts on shared samples. Keeps what it said."""

    settings: CreamFLSettings
    said: Kept[Tensor | None]  # its representations, between `infer` and `learn`

    def __init__(self, context: ClientContext, settings: CreamFLSettings) -> None:
        super().__init__(context, settings)
        self.said = None

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> LabelledRepresentations | SharedRepresentations:
        """z_i, with the label where a generator is to be tuned."""
        z = torch.nan_to_num(z)
        self.said = z
        return (
            SharedRepresentations(z.numpy())
            if self.settings.shared == "public"
            else LabelledRepresentations(z.numpy(), labels_of(logits))
        )

    def recall(self, message: MissedRound, *, round: int) -> Empty:
        """With what it says now of what it was not asked about then."""
        found = super().recall(message, round=round)
        assert self.samples is not None
        self.said = torch.nan_to_num(self.context.encode(self.samples))
        return found

    def targets(self, message: CreamFLGlobals, kept: Tensor) -> dict[str, Tensor]:
        """G of both modalities, and the model's own words of before."""
        assert self.said is not None
        found = {"said": self.said[kept]}
        for m in SINGLE_MODALITY:
            given = getattr(message, m)
            if given is not None:
                found["own" if m == self.context.modality else "other"] = torch.from_numpy(given)
        self.said = None
        return found

    def local_update(self, round: int) -> float | None:
        """Private steps first."""
        self.train_private(self.settings.private_steps, round)
        return self.on_shared(round)

    def task_loss(self, inputs: Inputs, index: Tensor) -> Tensor:
        """L_own."""
        s, context, model = self.settings, self.context, cast(Any, self.context.model)
        logits = model(**context.ready(inputs))
        apart = class_spread(model.head.weight, s.spread)
        return margin_cross_entropy(logits, context.private_labels[index], s.margin) + apart

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """L_own + 0.5 (L_inter + L_intra); without `together` the contrasts alone."""
        s, context = self.settings, self.context
        z = context.model.encode(**views)  # type: ignore[operator]
        loss: Tensor = z.sum() * 0.0
        if "other" in pool:
            loss = loss + inter_contrast(z, pool["other"], i, s.contrast_temperature)
        if "own" in pool:
            loss = loss + intra_contrast(z, pool["own"][i], pool["said"][i], s.contrast_temperature)
        if not s.together:
            return s.contrast_weight * loss
        return self.private_loss(len(i)) + s.contrast_weight * loss


class CreamFLServer(SharedServer):
    """Weighs the clients by contrast; with a public set, two encoders."""

    settings: CreamFLSettings
    models: Kept[dict[ClientTask, ClientContext]]
    optimizer: Kept[torch.optim.Optimizer | None]
    formula = "creamfl"

    @classmethod
    def workload(cls, settings: CreamFLSettings, batch: int) -> Workload:  # type: ignore[override]
        """With the steps of the server's own models."""
        return replace(super().workload(settings, batch), server_steps=settings.server_steps)

    def __init__(self, context: ServerContext, settings: CreamFLSettings) -> None:
        super().__init__(context, settings)
        self.models, self.optimizer = {}, None
        if settings.shared == "public":
            if context.models is None:
                raise BadInput("CreamFL on a public set needs encoders on the server, and this run has none")
            self.models = {m: context.models(m) for m in SINGLE_MODALITY}
            both = [p for own in self.models.values() for p in own.model.parameters()]
            self.optimizer = adamw(both, settings.server_rate)

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """Global representations; labels by unweighted majority."""
        if not len(outputs.representations):
            return Aggregate(torch.full((len(samples),), -1), {})
        inputs = {
            m: context.inputs(samples.images if m == ClientTask.IMAGE_CLASSIFICATION else samples.texts)
            for m, context in self.models.items()
        }
        anchors = (
            {m: context.look(inputs[m])[0] for m, context in self.models.items()}
            if self.models
            else self._means(outputs)
        )
        targets = self._aggregate(outputs, anchors)
        losses = {}
        if self.models:
            losses["server encoders"] = self._train(t, inputs, targets, outputs)
            anchors = {m: context.look(inputs[m])[0] for m, context in self.models.items()}
        spoken = anchors if self.models else targets
        kept = outputs.present.any(0)
        sent = CreamFLGlobals(kept.numpy(), **{m: spoken[m][kept].numpy() for m in SINGLE_MODALITY if m in spoken})
        labels = majority(outputs, len(self.context.class_names), samples.labels)
        fused = torch.stack([targets[m] for m in SINGLE_MODALITY if m in targets]).mean(0)[labels >= 0]
        return Aggregate(labels, dict.fromkeys(answered(outputs), sent), fused, losses)

    def _of(self, outputs: ClientOutputs, m: ClientTask) -> list[int]:
        return [k for k, modality in enumerate(outputs.modalities) if modality == m]

    def _means(self, outputs: ClientOutputs) -> dict[ClientTask, Tensor]:
        """What the clients of each modality say on average."""
        found = {}
        for m in SINGLE_MODALITY:
            if own := self._of(outputs, m):
                z, here = outputs.representations[own], outputs.present[own]
                robust = self.settings.aggregate != "mean"
                found[m] = self.combined(z, here.float()) if robust else mean_over(z, here)
        return found

    def _aggregate(self, outputs: ClientOutputs, anchors: Mapping[ClientTask, Tensor]) -> dict[ClientTask, Tensor]:
        """sum alpha_k z_k per modality; alpha: softmax over its clients of the log-softmax at the own sample."""
        found = {}
        for m, other in zip(SINGLE_MODALITY, reversed(SINGLE_MODALITY), strict=True):
            if not (own := self._of(outputs, m)):
                continue
            z, here = outputs.representations[own], outputs.present[own]
            z = z.masked_fill(~here[..., None], 0.0)
            against = anchors.get(other, anchors[m])
            weights = contrast_weights(z, against, self.settings.weigh_temperature, True, here)
            found[m] = self.combined(z, weights)
        return found

    def _train(
        self,
        t: int,
        inputs: Mapping[ClientTask, Inputs],
        targets: Mapping[ClientTask, Tensor],
        outputs: ClientOutputs,
    ) -> float | None:
        """Contrast between the encoders on public pairs, and 0.3 times the distance to the targets."""
        s, sites = self.settings, self.models
        kept = outputs.present.any(0)
        n = len(kept)

        def loss(index: NDArray[np.int64]) -> Tensor:
            i = torch.from_numpy(index)
            z = {m: context.model.encode(**rows(inputs[m], i)) for m, context in sites.items()}  # type: ignore[operator]
            total = symmetric_infonce(
                z[ClientTask.IMAGE_CLASSIFICATION], z[ClientTask.TEXT_CLASSIFICATION], s.server_temperature
            )
            for m, target in targets.items():
                if kept[i].any():
                    total = total + s.server_weight * F.mse_loss(z[m][kept[i]], target[i][kept[i]])
            return total

        assert self.optimizer is not None  # made with the encoders
        for context in sites.values():
            context.model.train()
        batch = min(context.batch for context in sites.values())
        steps = s.steps_on(n, s.server_steps, batch)
        batches = index_batches(n, batch, steps, self.context.rng(t, "encoders"))
        with global_torch_stream(self.context.seed, "server", t, "encoders", "dropout"):
            return fit(self.optimizer, batches, loss, name=f"server encoders, round {t}")


def _verbs(settings: CreamFLSettings) -> dict[str, tuple[Any, Any]]:
    answer = SharedRepresentations if settings.shared == "public" else LabelledRepresentations
    return {"infer": (ASKED, answer), "learn": (CreamFLGlobals, Done), **recalling(settings)}


def _needs(settings: CreamFLSettings) -> frozenset[str]:
    return needs(settings) | (frozenset({"models"}) if settings.shared == "public" else frozenset())


METHOD = Method(
    "creamfl",
    CreamFLSettings,
    CreamFLClient,
    CreamFLServer,
    _verbs,
    _needs,
    private_steps=(CreamFLClient, of_creamfl),
    needs_server="its server contrasts all clients, and trains encoders of its own",
)
