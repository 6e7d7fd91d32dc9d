"""What FedAFD is compared with, on its scene: FedMD, FedGEMS, Fed-ET and CreamFL on representations of public pairs.

    down  the public pairs, once; each round representations of them to learn from
    up    each round the client's representations of them

Where clients have tasks of their own there are no common scores to exchange, so FedAFD's paper compares on
representations, as CreamFL's did before; how it adapted these methods it does not say. Ours, each after the idea of its
own paper:

    FedMD     clients are drawn towards the plain mean of what clients said the round before; so is the server
    FedGEMS   the server believes, about a sample that it gets wrong itself, those clients that get it right, by inverse
              entropy; clients are drawn towards the server. Right: the own partner scores highest among all P
    Fed-ET    the server weighs clients by the variance of a sample's scores; clients are drawn towards the server
    CreamFL   the server weighs clients by contrast with its representations of the other kind; clients contrast with
              both kinds (see `creamfl`)

A sample's scores are the cosines of its representation with the server's P representations of the other kind: what
logits over classes are in the papers. Each step on public pairs also has a private batch, as CreamFL's have here (see
`creamfl`, `together`): the same number of steps for all.

CreamFL's code, on this very scene: the margin of 4 of clients that classify, a sum of both directions' L_inter at
image-text clients beside the mean L_intra, the weights, the targets. It counts the distillation twice where there are
image-text clients (0.6 in all); here it is `gamma` once, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.functional.contrast import contrast_weights
from fedloom.functional.similarity import score_facts, weight_entropy
from fedloom.methods.base import Done, Info, Method, ServerContext, TrainOrder
from fedloom.methods.context import ClientContext
from fedloom.methods.creamfl import inter_contrast, intra_contrast
from fedloom.methods.replies import Clock
from fedloom.methods.retrieval_messages import (
    MODALITIES,
    TASKS,
    EnsembleSettings,
    GlobalRepresentations,
    PublicSet,
    RetrievalSettings,
    Views,
    partner,
)
from fedloom.methods.retrieval_round import RetrievalClient, RetrievalServer
from fedloom.methods.robust import combined, weighed
from fedloom.methods.state import Kept
from fedloom.methods.workload import Workload
from fedloom.tasks import Modality

Array = NDArray[Any]


class RetrievalBaselineSettings(EnsembleSettings):
    """With the weight of the pull at the clients."""

    pull: float = Field(1.0, ge=0, description="weight of |z - target|^2 at the clients")
    score_temperature: float = Field(0.1, gt=0, description="of scores in the entropy (FedGEMS)")


class RetrievalCreamFLSettings(EnsembleSettings):
    """CreamFL's own numbers."""

    margin: float = Field(4.0, ge=0, description="what the true class's logit is lowered by in training")
    gamma: float = Field(0.3, ge=0, description="weight of the distillation")
    contrast_weight: float = Field(0.5, ge=0, description="of L_inter + L_intra at the clients")
    contrast_temperature: float = Field(0.5, gt=0, description="of both")
    tau: float = Field(1.0, gt=0, description="of the clients' scores at the server")


# --------------------------------------------------------------------------------------------------- the clients


class _Client(RetrievalClient):
    """Private steps; then steps with a private and a public batch each."""

    def local_update(self, message: GlobalRepresentations, round: int) -> float | None:
        """The own task's mean loss comes from the private steps."""
        s = self.settings
        loss = self.train_private(s.private_steps, round)
        targets = {m: torch.from_numpy(z) for m in MODALITIES if (z := getattr(message, m)) is not None}
        private = self.private_beside(round)

        def objective(z: Mapping[Modality, Tensor], i: Tensor) -> Tensor:
            return self.task_loss(*private(len(i))) + self.shared_loss(z, i, targets)

        self.on_public(s.shared_steps, objective, round)
        return loss

    def shared_loss(self, z: Mapping[Modality, Tensor], i: Tensor, targets: Mapping[Modality, Tensor]) -> Tensor:
        """Of unit representations z (B, D) of public samples i."""
        raise NotImplementedError


class DistilledClient(_Client):
    """FedMD, FedGEMS, Fed-ET: towards the targets of the same kind."""

    settings: RetrievalBaselineSettings

    def shared_loss(self, z: Mapping[Modality, Tensor], i: Tensor, targets: Mapping[Modality, Tensor]) -> Tensor:
        """|z - target|^2, mean over the batch, over the client's kinds."""
        terms = []
        for m in (m for m in MODALITIES if m in z and m in targets):
            told = targets[m][i]
            there = told.any(1)
            terms.append(((z[m] - told).square().sum(1) * there).mean())
        return self.settings.pull * torch.stack(terms).mean() if terms else torch.zeros(())


class ContrastiveClient(_Client):
    """CreamFL: inter- and intra-modal contrast."""

    settings: RetrievalCreamFLSettings

    def __init__(self, context: ClientContext, settings: RetrievalCreamFLSettings) -> None:
        super().__init__(context, settings)
        self.said: dict[Modality, Tensor] = {}

    def local_update(self, message: GlobalRepresentations, round: int) -> float | None:
        """What it said before is what it said with the weights it had at the round's beginning."""
        self.said = self.spoken()
        return super().local_update(message, round)

    def shared_loss(self, z: Mapping[Modality, Tensor], i: Tensor, targets: Mapping[Modality, Tensor]) -> Tensor:
        """0.5 (L_inter + L_intra): the first summed over the client's kinds, the second their mean."""
        s, t = self.settings, self.settings.contrast_temperature
        inter = [inter_contrast(x, targets[partner(m)], i, t) for m, x in z.items()]
        intra = [intra_contrast(x, targets[m][i], self.said[m][i], t) for m, x in z.items()]
        return s.contrast_weight * (torch.stack(inter).sum() + torch.stack(intra).mean())


# ---------------------------------------------------------------------------------------------------- the server


class RetrievalStandalone(RetrievalServer):
    """Nothing crosses: the server learns from its pairs, the clients from their data; as many steps as the others."""

    settings: RetrievalSettings  # type: ignore[assignment]  # nobody answers

    @classmethod
    def workload(cls, settings: RetrievalSettings, batch: int) -> Workload:
        """As many steps as the others, on private data alone."""
        return replace(super().workload(settings, batch), shared_steps=0)

    def round(self, federation: Federation) -> Info:
        """Steps on both sides."""
        s, clock = self.settings, Clock()
        with clock("server"):
            loss = self.match(federation.round, s.server_steps + s.distill_steps)
        with clock("clients"):
            order = TrainOrder(s.private_steps + s.shared_steps)
            replies = federation.ask("train", order, timeout=self.context.timeout)
            said = {r.client: r.message.loss for r in replies if r.ok}
        mean = float(np.mean([said[k] for k in sorted(said)])) if said else None
        return Info(losses={"server matching": loss, "clients": mean}, seconds=clock.seconds, formula=(0, 0))


class _Server(RetrievalServer):
    """Its own representations go down."""

    def targets(self, client: str, modality: str, bank: Mapping[Modality, Tensor]) -> GlobalRepresentations:
        """Both kinds."""
        return GlobalRepresentations(self.name, bank[Modality.IMAGE].numpy(), bank[Modality.TEXT].numpy())


class RetrievalFedMD(RetrievalServer):
    """The mean of the round before goes down."""

    settings: RetrievalBaselineSettings
    consensus: Kept[dict[Modality, Tensor]]

    def __init__(self, context: ServerContext, settings: RetrievalBaselineSettings) -> None:
        super().__init__(context, settings)
        self.consensus = {}

    def targets(self, client: str, modality: str, bank: Mapping[Modality, Tensor]) -> GlobalRepresentations:
        """The mean of each kind; nothing in the first round."""
        return GlobalRepresentations(self.name, **{m: z.numpy() for m, z in self.consensus.items()})

    def ensemble(
        self, m: Modality, z: Tensor, present: Tensor, bank: Mapping[Modality, Tensor]
    ) -> tuple[Tensor, float | None]:
        """Everybody weighs the same."""
        self.consensus[m], entropy = weighed(self.settings, z, present.float())
        return self.consensus[m], entropy


class RetrievalFedGEMS(_Server):
    """Selective: who is right where the server is wrong."""

    settings: RetrievalBaselineSettings

    def ensemble(
        self, m: Modality, z: Tensor, present: Tensor, bank: Mapping[Modality, Tensor]
    ) -> tuple[Tensor, float | None]:
        """1 / H over the clients that are right; zero where the server is right itself, or nobody is."""
        tau, other = self.settings.score_temperature, bank[partner(m)]
        facts = score_facts(z, other, tau)
        own = score_facts(bank[m][None], other, tau).right[0]
        weights = facts.right * present / facts.entropy.clamp(min=1e-6)
        return weighed(self.settings, z, weights * ~own)


class RetrievalFedET(_Server):
    """By variance."""

    settings: RetrievalBaselineSettings

    def ensemble(
        self, m: Modality, z: Tensor, present: Tensor, bank: Mapping[Modality, Tensor]
    ) -> tuple[Tensor, float | None]:
        """Weights in proportion to the variance of the scores."""
        facts = score_facts(z, bank[partner(m)], 1.0)
        return weighed(self.settings, z, facts.variance * present)


class RetrievalCreamFL(_Server):
    """By contrast with the other kind."""

    settings: RetrievalCreamFLSettings

    def ensemble(
        self, m: Modality, z: Tensor, present: Tensor, bank: Mapping[Modality, Tensor]
    ) -> tuple[Tensor, float | None]:
        """softmax over clients of the log-softmax at the sample's partner."""
        other = bank[partner(m)]
        weights = contrast_weights(z, other, self.settings.tau, True, present)
        return combined(self.settings, z, weights), float(weight_entropy(weights).mean())


# ---------------------------------------------------------------------------------------------------- the methods


def _method(name: str, settings: type[RetrievalSettings], client: Any, server: Any) -> Method:
    def verbs(settings: Any) -> dict[str, tuple[Any, Any]]:
        return (
            {}
            if server is RetrievalStandalone
            else {"hold": (PublicSet, Done), "learn": (GlobalRepresentations, Views)}
        )

    unit_length: Callable[[Any, Any], Any] = lambda settings, clients: clients.unit()  # noqa: E731
    needs = frozenset({"models", "public"})
    return Method(
        name,
        settings,
        client,
        server,
        verbs,
        needs,
        models=unit_length,
        tasks=TASKS,
        label_space="per task",
        needs_server="its server trains encoders of its own",
    )


R_STANDALONE = _method("r-standalone", RetrievalSettings, RetrievalClient, RetrievalStandalone)
R_FEDMD = _method("r-fedmd", RetrievalBaselineSettings, DistilledClient, RetrievalFedMD)
R_FEDGEMS = _method("r-fedgems", RetrievalBaselineSettings, DistilledClient, RetrievalFedGEMS)
R_FEDET = _method("r-fed-et", RetrievalBaselineSettings, DistilledClient, RetrievalFedET)
R_CREAMFL = _method("r-creamfl", RetrievalCreamFLSettings, ContrastiveClient, RetrievalCreamFL)
