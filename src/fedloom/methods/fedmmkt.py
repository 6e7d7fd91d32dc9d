"""FedMMKT: co-enhancing a server text-to-image model and client task models (arXiv 2510.12254).

    down  synthetic pictures to image clients, captions of the same pictures to text clients (no labels)
    up    full: representation, label, entropy | u: two representations, label, entropy | l: logits
    down  which samples are kept, their voted labels, their fused representations (l: labels only)

The paper's formulas were not available to us in print, only their description: the settings name every reading. Ours,
because the paper is silent: the function from entropy to weight (`confidence`), the quorum's value (`gamma`), what the
cross-attention attends to (`attention`), whether the sample itself stands in the contrast's denominator
(`include_self`), how representations enter the generator (`condition`), what the KL term is computed on (`align_*`),
a pool of kept samples that the generator and clients go on training on (`replay_rounds`), and a round in which one of
two modalities is silent: eq. 33, whose anchor is then the mean of the representations themselves, as no views of
augmented samples were asked for (a warning says so).

The ablations are settings: -LabVote `labvote=false`; -MultiRepFusion `fusion=false`; -T2I_Rep `omit=1`;
-Client_Rep `kl_weight=0`.
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
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.attention import LearnedCrossAttention, train_cross_attention
from fedloom.functional.augment import drop_tokens, simclr_views
from fedloom.functional.confidence import confidence, entropy
from fedloom.functional.distillation import align_loss
from fedloom.functional.fusion import fuse_logits, fuse_modalities, fuse_views, mean_over
from fedloom.functional.voting import label_vote, quorum_filter
from fedloom.methods.base import Done, Method, ServerContext
from fedloom.methods.context import Inputs
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_messages import RoundSettings
from fedloom.methods.shared_samples import (
    Aggregate,
    SharedClient,
    SharedSamples,
    SharedServer,
    answered,
    labels_of,
    shown,
)
from fedloom.methods.state import Kept
from fedloom.methods.workload import Workload
from fedloom.seeding import global_torch_stream
from fedloom.tasks import ClientTask

Array = NDArray[Any]
log = logging.getLogger(__name__)


class FedMMKTSettings(RoundSettings):
    """Defaults are those of the specification unless the description says otherwise."""

    variant: Literal["full", "u", "l"] = Field("full", description="all of it, one modality (u-), or logits (l-)")
    # eqs. 3-5
    labvote: bool = Field(True, description="off: keep the drawn labels and every sample (-LabVote)")
    confidence: Literal["inv", "exp", "lin"] = Field("inv", description="weight as a function of entropy, eq. 3")
    entropy_floor: float = Field(0.01, gt=0, description="H_min in nats")
    gamma: float = Field(0.5, ge=0, le=1, description="share of clients that must agree, eq. 5")
    # eqs. 6-10, 28-30, 33
    fusion: bool = Field(True, description="off: no representations anywhere (-MultiRepFusion)")
    attention: Literal["paired", "batch", "chunk", "mha"] = Field("paired", description="cross-attention, eqs. 6-7")
    attention_temperature: float = Field(0.1, gt=0, description="tau_a of mode `batch`")
    attention_heads: int = Field(8, ge=1, description="heads of modes `chunk` and `mha`")
    contrast_temperature: float = Field(1.0, gt=0, description="tau of eq. 8")
    include_self: bool = Field(False, description="keep j = i in the denominator of eq. 8")
    anchor: Literal["raw", "enhanced"] = Field("raw", description="means that eq. 8 compares with")
    balance: bool = Field(False, description="give both modalities equal say however many clients each has")
    # eq. 13
    kl_weight: float = Field(1.0, ge=0, description="lambda of eq. 13; 0 is -Client_Rep")
    align: Literal["kl", "mse", "cos"] = "kl"
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
    """M2: r_i, argmax label (-1: no finite answer) and entropy in nats."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]
    labels: Annotated[Array, Wire("int32", ("S",))]
    entropies: Annotated[Array, Wire("float32", ("S",))]


@dataclass(frozen=True)
class FedMMKTViewedOutputs:
    """M2 of u-FedMMKT: as `Opinion`, with r'_i of an augmented view."""

    representations: Annotated[Array, Wire("float32", ("S", "D"))]
    augmented: Annotated[Array, Wire("float32", ("S", "D"))]
    labels: Annotated[Array, Wire("int32", ("S",))]
    entropies: Annotated[Array, Wire("float32", ("S",))]


@dataclass(frozen=True)
class FedMMKTLogits:
    """M2 of l-FedMMKT. A row that is not finite is no answer."""

    logits: Annotated[Array, Wire("float32", ("S", "C"), finite=False)]


@dataclass(frozen=True)
class FedMMKTTargets:
    """M3: which samples were kept, their labels and, except in l-FedMMKT, their fused representations R_i."""

    kept: Annotated[Array, Wire("bool", ("S",))]
    labels: Annotated[Array, Wire("int32", ("M",))]
    representations: Annotated[Array, Wire("float32", ("M", "D"))] | None = None


# ---------------------------------------------------------------------------------------------------- the client


class FedMMKTClient(SharedClient):
    """C1: answers about the synthetic samples. C2: re-trains on those that are kept."""

    settings: FedMMKTSettings
    stream, private_stream = "synthetic", ("mix",)

    def answer(self, message: FedMMKTPictures | FedMMKTCaptions, z: Tensor, logits: Tensor) -> Any:
        """C1: representations, labels and entropies of the synthetic samples (eq. 3 begins here)."""
        if self.settings.variant == "l":
            return FedMMKTLogits(logits.numpy())
        spread = entropy(logits)
        labels = labels_of(logits)
        spread, z = torch.nan_to_num(spread, nan=0.0).float(), torch.nan_to_num(z)
        if self.settings.variant == "u":
            view = self._augment(self.context.raw(shown(message)), message.view_seed)
            z_view = torch.nan_to_num(self.context.look(view)[0])
            return FedMMKTViewedOutputs(z.numpy(), z_view.numpy(), labels, spread.numpy())
        return FedMMKTOutputs(z.numpy(), labels, spread.numpy())

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
        found = {"labels": torch.from_numpy(message.labels).long()}
        if message.representations is not None:
            found["fused"] = torch.from_numpy(message.representations)
        return found

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
        self.attention = None
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
            ClientTask.TEXT_CLASSIFICATION: FedMMKTCaptions(samples.texts, seed),
        }
        return {k: probes[federation.modality(k)] for k in federation.clients}

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """S2 and S3, from M2 to M3: which samples are kept, their labels, and R."""
        s, drawn, clients = self.settings, torch.from_numpy(samples.labels), len(federation.clients)
        fused = None
        if s.variant == "l":
            labels, kept = self._vote_by_logits(outputs, drawn, clients)
        else:
            labels, kept = self._vote(outputs, drawn, clients)
            fused = self._fuse(outputs, kept, t) if s.fusion and kept.any() else None
        told = None if fused is None else fused.numpy()
        targets = FedMMKTTargets(kept.numpy(), labels[kept].to(torch.int32).numpy(), told)
        return Aggregate(labels, dict.fromkeys(answered(outputs), targets), fused, kept=kept)

    def _vote(self, o: ClientOutputs, drawn: Tensor, clients: int) -> tuple[Tensor, Tensor]:
        """LabVote, eqs. 3-5: labels (S,) with -1 where nobody voted, kept (S,) bool."""
        s = self.settings
        if not s.labvote:
            return drawn, torch.ones(len(drawn), dtype=torch.bool)
        weights = confidence(
            o.entropies, mode=s.confidence, floor=s.entropy_floor, classes=len(self.context.class_names)
        )
        vote = label_vote(o.labels, weights, len(self.context.class_names), drawn)
        return vote.labels, quorum_filter(vote.counts, clients, s.gamma)

    def _fuse(self, o: ClientOutputs, kept: Tensor, t: int) -> Tensor | None:
        """MultiRepFusion, eqs. 6-10, over retained samples and present clients; eq. 33 with one modality."""
        s, present = self.settings, o.present[:, kept]
        if not present.any():
            return None
        z = o.representations[:, kept]  # (K, M, D)
        contrast: dict[str, Any] = {"temperature": s.contrast_temperature, "include_self": s.include_self}
        images = torch.tensor([m == ClientTask.IMAGE_CLASSIFICATION for m in o.modalities])
        if s.variant == "u" or images.all() or not images.any():
            if o.augmented is None:  # asked as one of two modalities, they sent no views
                silent = "text" if images.all() else "image"
                log.warning("round %d: no %s client answered; eq. 33 with representations in place of views", t, silent)
            views = o.augmented[:, kept] if o.augmented is not None else z
            return fuse_views(z, views, present=present, **contrast).representation
        if self.attention is not None:  # one pass a round, over samples that both modalities have answered
            context, paired = (
                mean_over(z[~images], present[~images]),
                present[images] & present[~images].any(0),
            )
            train_cross_attention(self.attention, z[images], context, paired)
        fused = fuse_modalities(
            z[images],
            z[~images],
            image_present=present[images],
            text_present=present[~images],
            mode=s.attention,
            attention_temperature=s.attention_temperature,
            heads=s.attention_heads,
            anchor=s.anchor,
            balance=s.balance,
            module=self.attention,
            **contrast,
        )
        return fused.representation

    def _vote_by_logits(self, o: ClientOutputs, drawn: Tensor, clients: int) -> tuple[Tensor, Tensor]:
        """l-FedMMKT, eqs. 28-31, then the filter on the clients' own answers."""
        if not len(o.logits):
            return torch.full_like(drawn, -1), torch.zeros(len(drawn), dtype=torch.bool)
        if not self.settings.labvote:
            return drawn, torch.ones(len(drawn), dtype=torch.bool)
        s = self.settings
        logits = fuse_logits(
            o.logits,
            o.modalities,
            temperature=s.contrast_temperature,
            include_self=s.include_self,
            present=o.present,
        )
        labels = logits.argmax(1).masked_fill(~o.present.any(0), -1)
        counts = ((o.labels == labels) & o.present).sum(0)
        return labels, quorum_filter(counts, clients, s.gamma)


# ---------------------------------------------------------------------------------------------------- the method


def _verbs(settings: FedMMKTSettings) -> Mapping[str, tuple[Any, Any]]:
    """Verb to what goes down and what comes up, for the variant that is set."""
    outputs = {"full": FedMMKTOutputs, "u": FedMMKTViewedOutputs, "l": FedMMKTLogits}[settings.variant]
    return {"infer": ((FedMMKTPictures, FedMMKTCaptions), outputs), "retrain": (FedMMKTTargets, Done)}


def _resolve(settings: FedMMKTSettings, modalities: Sequence[str]) -> FedMMKTSettings:
    """With one modality there is nothing to attend across: u-FedMMKT (eq. 33) takes the place of eqs. 6-7."""
    if settings.variant == "u" and len(set(modalities)) > 1:
        raise BadInput("settings.variant = 'u' is for clients of one modality; set clients.image=[] or clients.text=[]")
    return (
        settings.model_copy(update={"variant": "u"})
        if settings.variant == "full" and len(set(modalities)) == 1
        else settings
    )


METHOD = Method(
    "fedmmkt",
    FedMMKTSettings,
    FedMMKTClient,
    FedMMKTServer,
    _verbs,
    frozenset({"generator", "captioner"}),
    resolve=_resolve,
)
