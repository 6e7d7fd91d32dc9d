"""FedAFD: adversarial alignment, granularity-aware fusion, similarity-guided ensemble (arXiv 2603.04890, CVPR 2026).

    down  the public pairs, once; each round I_g and T_g, and the server's encoders of the client's own kinds
    up    each round I_c and/or T_c, unit representations of the public set by the client's raw encoders

Clients classify pictures, classify texts, or find pictures by texts; each has a task of its own. A round:

    1  the server learns by matching on the public pairs, and encodes them: I_g, T_g
    2  a client aligns its encoder with the server's on public data against two discriminators (BAA), then learns its
       own task on private data, from representations fused with the frozen server encoder's (GFF)
    3  it encodes the public set; the server weighs the clients by similarity and distils (SED)

Discriminators, fusion and client encoders never leave. The frozen server encoder is needed at test time too.

After the paper and, where it is silent, its code (Chao2433/FedAFD); defects of the code are switches, off by default:
a second sigmoid after the discriminator's (`legacy_double_sigmoid`), one global branch in both levels of the fusion
(`legacy_share_global`), a fusion begun anew in every round (`gff_reset_each_round`); noisy views are not offered.

Ours: alignment steps have a private batch beside, L_task + beta L_adv, as the paper prints it and the compared methods
have theirs; in the code alignment comes alone and private steps behind (`beside=False`, as many more of these).
Encoders go down once whole, then as changes in half precision (`encoders`; "whole" is the paper's way); g is of the
sample as it is, x of its training view; the optimiser keeps its moments between rounds; a client logs how well its
discriminators tell the two apart, and BAA can pause on their collapse (`stop_collapse`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.messages import Share, Tensors
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional import adversarial
from fedloom.functional.similarity import similarity_weights, weight_entropy
from fedloom.methods.base import Done, Method, ServerContext
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.delivery import Delivery, Delta, HeldEncoders, Sending, weights_of
from fedloom.methods.retrieval_context import RetrievalContext, of_kind
from fedloom.methods.retrieval_messages import MODALITIES, TASKS, EnsembleSettings, PublicSet, Views, kinds_of, partner
from fedloom.methods.retrieval_round import RetrievalClient, RetrievalServer
from fedloom.methods.robust import combined, weighed
from fedloom.methods.state import Arrays, Kept
from fedloom.models.discriminator import Discriminator
from fedloom.models.fit import fit, index_batches
from fedloom.models.granularity import GranularityFusion, Norm
from fedloom.seeding import global_torch_stream
from fedloom.tasks import Modality

Bank = Mapping[Modality, Tensor]  # representations by modality
log = logging.getLogger(__name__)


class FedAFDSettings(EnsembleSettings):
    """The three parts, each of which can be left out, and the switches of the authors' code."""

    baa: bool = Field(True, description="bi-level adversarial alignment")
    gff: bool = Field(True, description="granularity-aware feature fusion")
    sed: bool = Field(True, description="similarity-guided ensemble; off: clients weigh the same")
    beta: float = Field(0.5, ge=0, description="beta, weight of the adversarial losses")
    local_epochs: int = Field(1, ge=1, description="turns of public and private steps a round (E; the paper's 5)")
    adversary: Literal["nonsat", "minimax", "grl"] = Field(
        "nonsat",
        description="as the code has it, as the paper prints it, or by gradient reversal in one pass",
    )
    discriminator_rate: float = Field(1e-4, gt=0, description="Adam's rate of the discriminators")
    baa_warmup_rounds: int = Field(0, ge=0, description="first rounds without BAA, while the server knows little")
    stop_collapse: bool = Field(
        False, description="leave the encoder alone in rounds after one whose discriminators were right in 99 %"
    )
    gff_rate: float = Field(5e-3, gt=0, description="rate of the fusion (the paper's 1e-4 at image-text clients)")
    gff_decay: float = Field(0.01, ge=0, description="weight decay of the fusion")
    gff_norm: Norm = Field("batch", description="layer: does not depend on the other samples of a batch")
    gff_ratio: int = Field(4, ge=1, description="r, bottleneck of the fusion")
    gff_reset_each_round: bool = Field(False, description="begin the fusion anew in each round")
    beside: bool = Field(True, description="alignment steps also have a private batch; false: alone, as in the code")
    tau: float = Field(1.0, gt=0, description="tau of the similarity-guided weights")
    encoders: Sending = Field("changes", description="whole: all weights in single precision every round")
    encoder_share: float = Field(1.0, gt=0, le=1, description="share of weights, those that moved most, of a change")
    legacy_double_sigmoid: bool = Field(False, description="a second sigmoid after the discriminator's")
    legacy_share_global: bool = Field(False, description="one global branch in both levels of the fusion")


@dataclass(frozen=True)
class FedAFDTargets:
    """Down: I_g and T_g, and what leads from version `base` of the server's encoders to `version`; see `delivery`."""

    public: str
    image: Annotated[NDArray[Any], Wire("float32", ("P", "D"))]
    text: Annotated[NDArray[Any], Wire("float32", ("P", "D"))]
    encoders: Annotated[Mapping[str, NDArray[Any]], Tensors(("float16", "float32", "int32"))] | None = None
    base: int = 0
    version: int = 0
    progress: Share = 0.0  # share of the rounds that are done, for the schedule of gradient reversal


# ---------------------------------------------------------------------------------------------------- the client


class FedAFDClient(RetrievalClient):
    """Aligns on public data, fuses on private data."""

    settings: FedAFDSettings
    inner: Kept[Discriminator]
    cross: Kept[Discriminator]
    fusion: Kept[GranularityFusion]
    adversary: Kept[torch.optim.Adam]
    told_apart: Kept[float]  # discriminators' accuracy in their last round
    server: Kept[HeldEncoders]

    def __init__(self, context: ClientContext, settings: FedAFDSettings) -> None:
        super().__init__(context, settings)
        model: Any = context.model
        s, width = settings, getattr(model, "image", model).width
        with global_torch_stream(context.seed, context.name, "adversaries"):
            self.inner, self.cross = Discriminator(width), Discriminator(width)
            self.fusion = GranularityFusion(width, s.gff_ratio, s.gff_norm, s.legacy_share_global)
        both = [*self.inner.parameters(), *self.cross.parameters()]
        self.adversary = torch.optim.Adam(both, lr=s.discriminator_rate)
        self.told_apart, self.server = 0.5, HeldEncoders(context)
        if s.gff:
            self._join_fusion()

    def local_update(self, message: FedAFDTargets, round: int) -> float | None:
        """E turns of the public pass and the private one; as many private batches whatever is left out."""
        s, context = self.settings, self.context
        if s.gff:
            if message.encoders is not None:
                self.server.take(Delta(dict(message.encoders), message.base, message.version))
            if s.gff_reset_each_round:
                self._begin_fusion_anew(round)
        bank = {m: torch.from_numpy(getattr(message, m)) for m in MODALITIES}
        g = self.server.views("private")
        losses = []

        def task(views: Inputs, i: Tensor) -> Tensor:
            return self._task_loss(views, i, g)

        for turn in range(s.local_epochs):
            self.fusion.train()
            steps = _part(s.private_steps, turn, s.local_epochs) + _part(s.shared_steps, turn, s.local_epochs)
            if s.baa and round > s.baa_warmup_rounds:
                steps -= self._align(message, bank, g, round, turn)
            losses.append(context.fit(context.private, steps, task, round, turn, "private"))
        return sum(known) / len(known) if (known := [x for x in losses if x is not None]) else None

    def _align(self, message: FedAFDTargets, bank: Bank, g: Bank, round: int, turn: int) -> int:
        """Discriminators' step, then the encoder's against them, on the same public batch; private batches beside."""
        s = self.settings
        steps = _part(s.shared_steps, turn, s.local_epochs)
        if s.stop_collapse and self.told_apart > 0.99:
            self._discriminate_only(bank, steps, round, turn)
            return 0
        turned = adversarial.reversal_coefficient(message.progress)
        accuracies, private = list[float](), self.private_beside(round, turn)

        def loss(z: Bank, i: Tensor) -> Tensor:
            task = self._task_loss(*private(len(i)), g) if s.beside else 0.0
            return task + s.beta * adversary(z, i)

        def adversary(z: Bank, i: Tensor) -> Tensor:
            accuracies.append(self._accuracy(bank, z, i))
            if s.adversary == "grl":
                self._land()
                return self._apart(bank, {m: adversarial.reverse_gradient(x, turned) for m, x in z.items()}, i)
            self._step(bank, {m: x.detach() for m, x in z.items()}, i, round)
            return self._against(z)

        self.on_public(steps, loss, round, turn)
        self._land()
        self._remember_accuracy(accuracies, round)
        return steps if s.beside else 0

    def _discriminate_only(self, bank: Bank, steps: int, round: int, turn: int) -> None:
        """A pass in which the encoder is left alone, so that discriminators do not get further ahead."""
        spoken, accuracies = self.spoken(), []
        rng = self.context.rng(round, turn, "public", "batches")
        for index in index_batches(len(bank[Modality.IMAGE]), self.context.batch, steps, rng):
            i = torch.from_numpy(index)
            z = {m: x[i] for m, x in spoken.items()}
            accuracies.append(self._accuracy(bank, z, i))
            self._step(bank, z, i, round)
        self._remember_accuracy(accuracies, round)

    def _step(self, bank: Bank, z: Bank, i: Tensor, round: int) -> None:
        """One Adam step of the discriminators on representations without gradient."""
        name = f"discriminators of {self.context.name}, round {round}"
        fit(self.adversary, [i], lambda i: self.settings.beta * self._apart(bank, z, i), clip=None, name=name)
        self.adversary.zero_grad(set_to_none=True)  # or `_land` would take the last step twice

    def _land(self) -> None:
        """With gradient reversal: the discriminators' step by what the encoder's backward pass left them."""
        if any(p.grad is not None for group in self.adversary.param_groups for p in group["params"]):
            self.adversary.step()
            self.adversary.zero_grad(set_to_none=True)

    def _remember_accuracy(self, accuracies: list[float], round: int) -> None:
        if accuracies:
            self.told_apart = float(np.mean(accuracies))
            log.info("%s, round %d: discriminators right in %.3f", self.context.name, round, self.told_apart)

    @property
    def losses(self) -> tuple[adversarial.Adversary, bool]:
        """Which loss, and whether with the second sigmoid."""
        return "minimax" if self.settings.adversary == "minimax" else "nonsat", self.settings.legacy_double_sigmoid

    def _told_apart(self, bank: Bank, z: Bank, i: Tensor) -> list[tuple[Discriminator, Tensor, Tensor]]:
        """Each discriminator with global representations, of z's own modality or of the other, and local ones."""
        both = [(d, of, x) for m, x in z.items() for d, of in ((self.inner, m), (self.cross, partner(m)))]
        return [(d, bank[of][i], x) for d, of, x in both]

    def _apart(self, bank: Bank, z: Bank, i: Tensor) -> Tensor:
        """L_in + L_cr of the discriminators."""
        each = self._told_apart(bank, z, i)
        apart = [adversarial.discriminator_loss(d(far), d(near), *self.losses) for d, far, near in each]
        return torch.stack(apart).sum()

    def _against(self, z: Bank) -> Tensor:
        """L_adv of the encoder; both discriminators are held."""
        both = (self.inner, self.cross)
        return torch.stack([adversarial.encoder_loss(d.held(x), *self.losses) for x in z.values() for d in both]).sum()

    @torch.no_grad()
    def _accuracy(self, bank: Bank, z: Bank, i: Tensor) -> float:
        each = self._told_apart(bank, z, i)
        return float(np.mean([adversarial.discriminator_accuracy(d(far), d(near)) for d, far, near in each]))

    def _task_loss(self, views: Inputs, i: Tensor, g: Bank) -> Tensor:
        """The own task on x~: cross-entropy with spread classes, or matching."""
        context, model = self.context, cast(Any, self.context.model)
        if isinstance(context, RetrievalContext):
            at = {Modality.IMAGE: context.private["picture"][i], Modality.TEXT: i}
            x = {m: model.encode(**of_kind(views, m)) for m in MODALITIES}
            fused = {m: self._fuse(x[m], g[m][at[m]] if g else None) for m in MODALITIES}
            return context.match(fused[Modality.IMAGE], fused[Modality.TEXT])
        z = model.encode(**views)
        logits = model.classify(self._fuse(z, g[Modality(context.modality)][i] if g else None))
        return self.class_loss(logits, i)

    def _fuse(self, x: Tensor, g: Tensor | None) -> Tensor:
        """x~, of unit representations x and g; without g, x."""
        return x if g is None else self.fusion(x, g)

    def represent(self, inputs: Inputs) -> Tensor:
        """x~ of the test samples, by the server's encoder of the last round; x before there is one."""
        x, g = super().represent(inputs), self.server.views("test")
        if not g:
            return x
        self.fusion.eval()
        with torch.no_grad():
            return self._fuse(x, torch.cat([g[m] for m in kinds_of(self.context.modality)]))

    def _join_fusion(self) -> None:
        """The fusion learns with the model, at a rate of its own."""
        s = self.settings
        own = {"params": list(self.fusion.parameters()), "lr": s.gff_rate, "weight_decay": s.gff_decay}
        self.context.optimizer.add_param_group(own)

    def _begin_fusion_anew(self, round: int) -> None:
        """Random weights and no moments, as the authors' code has it in every round."""
        with global_torch_stream(self.context.seed, self.context.name, round, "fusion"):
            s = self.settings
            fresh = GranularityFusion(self.fusion.width, s.gff_ratio, s.gff_norm, s.legacy_share_global)
        self.fusion.load_state_dict(fresh.state_dict())
        for p in self.fusion.parameters():
            self.context.optimizer.state.pop(p, None)


def _part(steps: int, turn: int, turns: int) -> int:
    """Steps of one turn: all turns together take `steps`."""
    return steps * (turn + 1) // turns - steps * turn // turns


# ---------------------------------------------------------------------------------------------------- the server


class FedAFDServer(RetrievalServer):
    """Sends its encoders, and believes the clients by similarity."""

    settings: FedAFDSettings
    deliveries: Kept[dict[Modality, Delivery]]
    receivers: Kept[dict[str, int]]  # client -> version of the encoders that it holds

    def __init__(self, context: ServerContext, settings: FedAFDSettings) -> None:
        super().__init__(context, settings)
        self.deliveries = {m: Delivery(settings.encoders, settings.encoder_share) for m in MODALITIES}
        self.progress, self.receivers = 0.0, {}

    def exchange(self, t: int, federation: Federation, bank: Bank) -> dict[str, Views]:
        """With a new version of the encoders; who does not answer is sent them whole next time."""
        if self.settings.gff:
            for m, context in self._each():
                self.deliveries[m].advance(weights_of(context.model))
        self.progress = (t - 1) / max(1, self.context.rounds)
        views = super().exchange(t, federation, bank)
        self.receivers = dict.fromkeys(views, self.deliveries[Modality.IMAGE].version)
        return views

    def targets(self, client: str, modality: str, bank: Bank) -> FedAFDTargets:
        """I_g and T_g (both: D_cr compares with the other kind), and encoders of the client's own kinds."""
        shown = self.name, bank[Modality.IMAGE].numpy(), bank[Modality.TEXT].numpy()
        if not self.settings.gff:
            return FedAFDTargets(*shown, progress=self.progress)
        arrays: Arrays = {}
        for m in kinds_of(modality):
            parcel = self.deliveries[m].parcel(self.receivers.get(client, 0))
            arrays |= {f"{m}.{k}": v for k, v in parcel.arrays.items()}
        return FedAFDTargets(*shown, arrays, parcel.base, parcel.version, self.progress)

    def ensemble(self, m: Modality, z: Tensor, present: Tensor, bank: Bank) -> tuple[Tensor, float | None]:
        """I_agg: clients weighed by how well they pick the sample out among all, against the server's own kind."""
        if not self.settings.sed:
            return weighed(self.settings, z, present.float())
        weights = similarity_weights(z, bank[m], self.settings.tau, present)
        return combined(self.settings, z, weights), float(weight_entropy(weights).mean())

    def paper_bytes(self, federation: Federation) -> tuple[int, int] | None:
        """The paper's way: representations, and whole encoders in single precision, every round."""
        up, down = super().paper_bytes(federation) or (0, 0)
        if not self.settings.gff:
            return up, down
        size = {m: sum(v.nbytes for v in weights_of(context.model).values()) for m, context in self._each()}
        return up, down + sum(size[m] for k in federation.clients for m in kinds_of(federation.modality(k)))


def _verbs(settings: FedAFDSettings) -> dict[str, tuple[Any, Any]]:
    return {"hold": (PublicSet, Done), "learn": (FedAFDTargets, Views)}


METHOD = Method(
    "fedafd",
    FedAFDSettings,
    FedAFDClient,
    FedAFDServer,
    _verbs,
    frozenset({"models", "public"}),
    models=lambda settings, clients: clients.unit(),
    tasks=TASKS,
    label_space="per task",
    client_uses=frozenset({"server"}),
    needs_server="its server trains encoders of its own",
)
