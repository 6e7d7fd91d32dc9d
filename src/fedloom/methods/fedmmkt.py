"""FedMMKT: co-enhancing a server text-to-image model and client task models (arXiv 2510.12254).

    down  synthetic pictures to image clients, captions of the same pictures to text clients (no labels)
    up    full: representation, label, entropy | u: two representations, label, entropy | l: logits
    down  which samples are kept, their voted labels, their fused representations (l: labels only)

The paper's formulas were not available to us in print, only their description: the settings name every reading. Ours,
because the paper is silent: from entropy to weight (`confidence`), the quorum (`gamma`, `quorum_of`), what attends to
what (`attention`), what eq. 8 scores (`scored`, `include_self`), how representations enter the generator (`condition`),
what KL is computed on (`align_*`), a pool of kept samples that all go on training on (`replay_rounds`), and a round in
which a modality is silent: eq. 33 with the representations themselves, as no views were asked for. Ours beyond the
paper: eq. 4 as a first guess, which who takes which class for which then corrects (`vote`).
Ablations: -LabVote `labvote=false`; -MultiRepFusion `fusion=false`; -T2I_Rep `omit=1`; -Client_Rep `kl_weight=0`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.messages import MOST_CLASSES, Tensors, sendable
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.attention import LearnedCrossAttention, train_cross_attention
from fedloom.functional.augment import drop_tokens, simclr_views
from fedloom.functional.confidence import entropy
from fedloom.functional.distillation import align_loss
from fedloom.functional.fusion import Fused, fuse_modalities, fuse_views, mean_over, weight_entropy
from fedloom.functional.spaces import common_space
from fedloom.functional.voting import knowing, own_votes, quorum_filter
from fedloom.methods.base import Done, Method, ServerContext
from fedloom.methods.catch_up import recalling
from fedloom.methods.context import Inputs
from fedloom.methods.graph import Peers
from fedloom.methods.labvote import LabVote, LabVoteSettings
from fedloom.methods.private_steps import of_fedmmkt
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_client import SharedClient, shown
from fedloom.methods.shared_messages import RoundSettings
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, answered, labels_of
from fedloom.methods.state import Kept
from fedloom.methods.workload import Workload
from fedloom.seeding import global_torch_stream
from fedloom.tasks import ClientTask

Array = NDArray[Any]
log = logging.getLogger(__name__)


class FedMMKTSettings(LabVoteSettings, RoundSettings):
    """Defaults are those of the specification unless the description says otherwise."""

    variant: Literal["full", "u", "l"] = Field("full", description="all of it, one modality (u-), or logits (l-)")
    # eqs. 3-5: `labvote`
    # eqs. 6-10, 28-30, 33
    fusion: bool = Field(True, description="off: no representations anywhere (-MultiRepFusion)")
    attention: Literal["paired", "batch", "chunk", "mha"] = Field("paired", description="cross-attention, eqs. 6-7")
    attention_temperature: float = Field(0.1, gt=0, description="tau_a of mode `batch`")
    attention_heads: int = Field(8, ge=1, description="heads of modes `chunk` and `mha`")
    contrast_temperature: float = Field(0.1, gt=0, description="tau of eq. 8")
    include_self: bool = Field(False, description="keep j = i in the denominator of eq. 8")
    anchor: Literal["raw", "enhanced"] = Field("raw", description="means that eq. 8 compares with")
    scored: Literal["raw", "enhanced"] = Field("raw", description="representations that eq. 8 compares with them")
    spaces: Literal["sent", "common"] = Field("sent", description="common: turned onto one another, as in round 1")
    balance: bool = Field(False, description="give both modalities equal say however many clients each has")
    # eq. 13
    kl_weight: float = Field(1.0, ge=0, description="lambda of eq. 13; 0 is -Client_Rep")
    align: Literal["kl", "mse", "cos"] = Field("kl", description="distance of z to R in eq. 13")
    align_direction: Literal["forward", "reverse"] = Field("forward", description="forward: teacher first")
    align_temperature: float = Field(1.0, gt=0, description="tau_r of eq. 13")
    mix: bool = Field(False, description="add a private batch to each synthetic one instead of private steps after")


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class FedMMKTPictures:
    """M1 to image clients: the round's synthetic pictures. `view_seed` makes all clients see the same views (u-)."""

    images: Annotated[Array, Wire("uint8", ("S", "H", "W", 3))]
    view_seed: int


@dataclass(frozen=True)
class FedMMKTCaptions:
    """M1 to text clients: their captions, in the same order."""

    texts: tuple[str, ...]
    view_seed: int


@dataclass(frozen=True)
class FedMMKTOutputs:
    """M2: r_i, argmax label (-1: no finite answer), entropy in nats; for `quorum_of` the classes that it knows."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]
    labels: Annotated[Array, Wire("int32", ("S",), low=-1, high=MOST_CLASSES - 1)]
    entropies: Annotated[Array, Wire("float32", ("S",), low=0, high=32)]
    known: Annotated[Array, Wire("bool", ("C",))] | None = None


@dataclass(frozen=True)
class FedMMKTViewedOutputs(FedMMKTOutputs):
    """M2 of u-FedMMKT: with r'_i of an augmented view."""

    augmented: Annotated[Array, Wire("float32", ("S", "D"))] | None = None


@dataclass(frozen=True)
class FedMMKTLogits:
    """M2 of l-FedMMKT. A row that is not finite is no answer."""

    logits: Annotated[Array, Wire("float32", ("S", "C"), finite=False)]
    known: Annotated[Array, Wire("bool", ("C",))] | None = None


@dataclass(frozen=True)
class FedMMKTTargets:
    """M3: which samples were kept, their labels and, except in l-FedMMKT, their fused representations R_i; with
    `rejudge`, earlier round -> labels of all its samples."""

    kept: Annotated[Array, Wire("bool", ("S",))]
    labels: Annotated[Array, Wire("int32", ("M",), low=-1, high=MOST_CLASSES - 1)]
    representations: Annotated[Array, Wire("float32", ("M", "D"))] | None = None
    revised: Annotated[Mapping[str, Array], Tensors("int32", low=0, high=MOST_CLASSES - 1)] | None = None


# ---------------------------------------------------------------------------------------------------- the client


class FedMMKTClient(SharedClient):
    """C1: answers about the synthetic samples. C2: re-trains on those that are kept."""

    settings: FedMMKTSettings
    stream, private_stream = "synthetic", ("mix",)

    def answer(self, message: FedMMKTPictures | FedMMKTCaptions, z: Tensor, logits: Tensor) -> Any:
        """C1: representations, labels and entropies of the synthetic samples (eq. 3 begins here)."""
        known = None
        if self.settings.quorum_of == "knowing":
            known = np.bincount(self.context.private_labels, minlength=logits.shape[1]) > 0
        if self.settings.variant == "l":
            return FedMMKTLogits(logits.numpy(), known)
        labels, z, spread = labels_of(logits), torch.nan_to_num(z), torch.nan_to_num(entropy(logits), nan=0.0).float()
        if self.settings.variant == "u":
            view = self._augment(self.context.raw(shown(message)), message.view_seed)
            z_view = torch.nan_to_num(self.context.look(view)[0])
            return FedMMKTViewedOutputs(z.numpy(), labels, spread.numpy(), known, z_view.numpy())
        return FedMMKTOutputs(z.numpy(), labels, spread.numpy(), known)

    def _augment(self, probe: Inputs, seed: int) -> Inputs:
        """SimCLR views of pictures, token dropout on texts (eq. 33), from the seed that the server sent."""
        draws = torch.Generator().manual_seed(seed)
        if self.context.modality == ClientTask.IMAGE_CLASSIFICATION:
            return {"pixel_values": simclr_views(probe["pixel_values"], draws)}
        ids = drop_tokens(probe["input_ids"], probe["attention_mask"], 0.15, draws, self.context.tokenizer.unk_token_id)
        return {"input_ids": ids, "attention_mask": probe["attention_mask"]}

    def retrain(self, message: FedMMKTTargets, *, round: int) -> Done:
        """C2: eq. 13 (l-: eq. 32) on the kept samples, then eq. 1 on private data."""
        return self.learn(message, round=round)

    def targets(self, message: FedMMKTTargets, kept: Tensor) -> dict[str, Tensor]:
        """Voted labels, and R_i where there are any."""
        fused = message.representations
        found = {} if fused is None else {"fused": torch.from_numpy(fused)}
        return found | {"labels": torch.from_numpy(message.labels).long()}

    def revised(self, message: FedMMKTTargets) -> dict[int, dict[str, Tensor]]:
        """Labels."""
        return {int(at): {"labels": torch.from_numpy(new).long()} for at, new in (message.revised or {}).items()}

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """L_syn: cross-entropy to the voted label, plus lambda times the distance to the fused representation."""
        s, model = self.settings, self.context.model
        z = model.encode(**views)  # type: ignore[operator]
        loss = F.cross_entropy(model.classify(z), pool["labels"][i])  # type: ignore[operator]
        if s.kl_weight and "fused" in pool:
            loss = loss + s.kl_weight * align_loss(
                z, pool["fused"][i], kind=s.align, direction=s.align_direction, temperature=s.align_temperature
            )
        return loss + self.private_loss(len(i)) if s.mix else loss

    def local_update(self, round: int) -> float | None:
        """Synthetic samples first; then private ones, unless each step has had its own."""
        return self.on_shared(round) if self.settings.mix else super().local_update(round)


# ---------------------------------------------------------------------------------------------------- the server


class FedMMKTServer(SharedServer):
    """LabVote and MultiRepFusion between synthesis (S1, eq. 2) and the tuning of the generator (S4, eqs. 11-12)."""

    settings: FedMMKTSettings
    attention: Kept[LearnedCrossAttention | None]
    vote: Kept[LabVote]
    maps: Kept[dict[str, Tensor]]  # client -> (D, D) into the common space
    learn_verb = "retrain"

    @classmethod
    def formula_name(cls, settings: FedMMKTSettings) -> str:
        """One for each variant."""
        return {"full": "fedmmkt", "u": "u-fedmmkt", "l": "l-fedmmkt"}[settings.variant]

    @classmethod
    def workload(cls, settings: FedMMKTSettings, batch: int) -> Workload:  # type: ignore[override]
        """u-: two answers about each sample."""
        found = super().workload(settings, batch)
        return replace(found, answers=2 * found.answers) if settings.variant == "u" else found

    def __init__(self, context: ServerContext, settings: FedMMKTSettings) -> None:
        super().__init__(context, settings)
        self.attention, self.maps = None, {}
        self._contrast: Any = {"temperature": settings.contrast_temperature, "include_self": settings.include_self}
        self._contrast["together"] = None if settings.aggregate == "mean" else self.combined
        self.vote = LabVote(settings, len(context.class_names), self._contrast)
        if settings.attention == "mha" and settings.variant == "full":
            with global_torch_stream(context.seed, "server", "attention"):
                self.attention = LearnedCrossAttention(context.width, settings.attention_heads)

    def messages(
        self, federation: Federation, samples: SharedSamples, wanted: Mapping[str, NDArray[np.bool_]]
    ) -> dict[str, Any]:
        """M1: pictures to image clients, their captions to text clients."""
        seed = int(self.context.rng(federation.round, "views").integers(2**31))
        probes: dict[str, Any] = {
            ClientTask.IMAGE_CLASSIFICATION: FedMMKTPictures(samples.images, seed),
            ClientTask.TEXT_CLASSIFICATION: FedMMKTCaptions(sendable(samples.texts), seed),
        }
        return {k: probes[federation.modality(k)] for k in federation.clients}

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """S2 and S3, from M2 to M3: which samples are kept, their labels, and R."""
        s, drawn = self.settings, torch.from_numpy(samples.labels)
        labels, votes, revised = self.vote(outputs, drawn, t)
        kept = torch.ones_like(labels, dtype=torch.bool)
        if s.labvote:
            known = outputs.known if s.quorum_of == "knowing" else None
            voters = len(federation.clients) if known is None else knowing(labels, known)
            kept = quorum_filter(votes, voters, s.gamma)
        fused: Fused | None = None
        if s.fusion and s.variant != "l" and kept.any():
            if s.spaces == "common" and not set(answered(outputs)) <= set(self.maps):
                self.maps = dict(zip(answered(outputs), common_space(outputs.representations, outputs.present)))
            fused = self._fuse(outputs, kept, t)
        seconded = own_votes(outputs.labels, labels, outputs.modalities, s.own_voters)
        targets = {
            k: self._targets(k, labels, kept, seconded[federation.modality(k)], fused) for k in answered(outputs)
        }
        if new := {str(at): q.argmax(1).to(torch.int32).numpy() for at, q in revised.items()}:
            targets = {k: replace(told, revised=new) for k, told in targets.items()}
        r, facts = (fused.representation, {"weight_entropy": weight_entropy(fused.weights)}) if fused else (None, {})
        return Aggregate(labels, targets, r, kept=kept, votes=votes, facts=facts, revised=revised)

    def lessons(self, federation: Federation, targets: Mapping[str, Any]) -> dict[str, Any]:
        """Where each client has a space of its own, without R: that of one who was there says nothing to another."""
        found = super().lessons(federation, targets)
        return {k: replace(told, representations=None) for k, told in found.items()} if self.maps else found

    def corrected(self, probable: Tensor, message: FedMMKTTargets) -> FedMMKTTargets:
        """With other labels."""
        labels = probable.argmax(1)[torch.from_numpy(message.kept)].to(torch.int32)
        return replace(message, labels=labels.numpy(), revised=None)

    def _targets(self, client: str, labels: Tensor, kept: Tensor, own: Tensor, fused: Fused | None) -> FedMMKTTargets:
        """M3, R in the client's own space; own: the samples that enough of its modality have voted for."""
        learned = kept & own
        told = FedMMKTTargets(learned.numpy(), labels[learned].to(torch.int32).numpy())
        if fused is None:
            return told
        r = fused.representation[own[kept]]
        r = r @ self.maps[client].T if client in self.maps else r
        return replace(told, representations=r.contiguous().numpy())

    def _fuse(self, o: ClientOutputs, kept: Tensor, t: int) -> Fused | None:
        """MultiRepFusion, eqs. 6-10, over retained samples and present clients; eq. 33 with one modality."""
        s, present = self.settings, o.present[:, kept]
        if not present.any():
            return None
        z = o.representations[:, kept]  # (K, M, D)
        views = z if o.augmented is None else o.augmented[:, kept]
        if self.maps:
            turn = torch.stack([self.maps[k] for k in answered(o)])
            z, views = z @ turn, views @ turn
        images = torch.tensor([m == ClientTask.IMAGE_CLASSIFICATION for m in o.modalities])
        if s.variant == "u" or images.all() or not images.any():
            if o.augmented is None:  # asked as one of two modalities, they sent no views
                silent = "text" if images.all() else "image"
                log.warning("round %d: no %s client answered; eq. 33 with representations in place of views", t, silent)
            return fuse_views(z, views, present=present, **self._contrast)
        if self.attention is not None:  # one pass a round, over samples that both modalities have answered
            context = mean_over(z[~images], present[~images])
            train_cross_attention(self.attention, z[images], context, present[images] & present[~images].any(0))
        return fuse_modalities(
            z[images],
            z[~images],
            image_present=present[images],
            text_present=present[~images],
            mode=s.attention,
            attention_temperature=s.attention_temperature,
            heads=s.attention_heads,
            anchor=s.anchor,
            scored=s.scored,
            balance=s.balance,
            module=self.attention,
            **self._contrast,
        )


# ---------------------------------------------------------------------------------------------------- the method


def _verbs(settings: FedMMKTSettings) -> Mapping[str, tuple[Any, Any]]:
    """Verb to what goes down and what comes up, for the variant that is set."""
    outputs = {"full": FedMMKTOutputs, "u": FedMMKTViewedOutputs, "l": FedMMKTLogits}[settings.variant]
    asked = FedMMKTPictures, FedMMKTCaptions
    return {"infer": (asked, outputs), "retrain": (FedMMKTTargets, Done), **recalling(settings)}


def _resolve(settings: FedMMKTSettings, modalities: Sequence[str]) -> FedMMKTSettings:
    """With one modality there is nothing to attend across: u-FedMMKT (eq. 33) takes the place of eqs. 6-7."""
    if settings.variant == "u" and len(set(modalities)) > 1:
        raise BadInput("settings.variant = 'u' is for clients of one modality; set clients.image=[] or clients.text=[]")
    alone = settings.variant == "full" and len(set(modalities)) == 1
    return settings.model_copy(update={"variant": "u"}) if alone else settings


METHOD = Method(
    "fedmmkt",
    FedMMKTSettings,
    FedMMKTClient,
    FedMMKTServer,
    _verbs,
    lambda settings: settings.tools("generator", "captioner"),
    resolve=_resolve,
    private_steps=(FedMMKTClient, of_fedmmkt),
    peers=Peers(FedMMKTServer, moves=True),
)
