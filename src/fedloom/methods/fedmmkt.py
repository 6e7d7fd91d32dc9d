"""FedMMKT: co-enhancing a server text-to-image model and client task models (arXiv 2510.12254).

    down  synthetic pictures to image clients, captions of the same pictures to text clients (no labels)
    up    full: representation, label, entropy | u: two representations, label, entropy | l: logits
    down  which samples are kept, their voted labels, their fused representations (l: labels only)

The messages of that table stand in `fedmmkt_messages`, what can be set in `fedmmkt_settings`.

The paper's formulas were not available to us in print, only their description: `Settings` names every reading. Ours,
because the paper is silent: the function from entropy to weight (`confidence`), the quorum's value (`gamma`), what the
cross-attention attends to (`attention`), whether the sample itself stands in the contrast's denominator
(`include_self`), how representations enter the generator (`condition`), what the KL term is computed on (`align_*`),
and a pool of kept samples that the generator and clients go on training on (`replay_rounds`).

The ablations are settings: -LabVote `labvote=false`; -MultiRepFusion `fusion=false`; -T2I_Rep `omit=1`;
-Client_Rep `kl_weight=0`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedloom.data.tasks import ClientTask
from fedloom.federation.base import Federation
from fedloom.functional.attention import LearnedCrossAttention, train_cross_attention
from fedloom.functional.augment import drop_tokens, simclr_views
from fedloom.functional.confidence import confidence, entropy
from fedloom.functional.distillation import align_loss
from fedloom.functional.fusion import fuse_logits, fuse_modalities, fuse_views, mean_over
from fedloom.functional.voting import label_vote, quorum_filter
from fedloom.methods.base import Client, Done, Info, LabelInfo, Method, Server, ServerContext
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.methods.fedmmkt_messages import (
    FedMMKTCaptions,
    FedMMKTLogits,
    FedMMKTOutputs,
    FedMMKTPictures,
    FedMMKTTargets,
    FedMMKTViewedOutputs,
    verbs,
)
from fedloom.methods.fedmmkt_settings import FedMMKTSettings, resolve
from fedloom.methods.replies import ClientOutputs, Clock
from fedloom.methods.state import Kept
from fedloom.methods.tuning import Pool, Tuner
from fedloom.methods.workload import Formula, Workload, formula, paper_bytes
from fedloom.seeding import global_torch_stream

Array = NDArray[Any]


# ---------------------------------------------------------------------------------------------------- the client


class FedMMKTClient(Client):
    """A client of FedMMKT. Keeps the round's probe, and a pool of the samples it was told to keep."""

    settings: FedMMKTSettings
    probe: Kept[Inputs | None]
    pool: Kept[Pool]

    def __init__(self, context: ClientContext, settings: FedMMKTSettings) -> None:
        super().__init__(context, settings)
        self.probe = None
        self.pool = Pool(settings.replay_rounds)

    def infer(self, message: FedMMKTPictures | FedMMKTCaptions, *, round: int) -> Any:
        """C1: representations, labels and entropies of the synthetic samples (eq. 3 begins here)."""
        context = self.context
        shown = message.images if isinstance(message, FedMMKTPictures) else message.texts
        self.probe = context.inputs(shown)
        z, logits = context.look(self.probe)
        if self.settings.variant == "l":
            return FedMMKTLogits(logits.numpy())
        spread = entropy(logits)
        absent = ~torch.isfinite(spread)
        labels = logits.argmax(1).masked_fill(absent, -1).to(torch.int32).numpy()
        spread = torch.nan_to_num(spread, nan=0.0)
        z = torch.nan_to_num(z)
        if self.settings.variant == "u":
            z_view, _ = context.look(self._augment(context.raw(shown), message.view_seed))
            return FedMMKTViewedOutputs(z.numpy(), torch.nan_to_num(z_view).numpy(), labels, spread.float().numpy())
        return FedMMKTOutputs(z.numpy(), labels, spread.float().numpy())

    def _augment(self, probe: Inputs, seed: int) -> Inputs:
        """SimCLR views of pictures, token dropout on texts (eq. 33), from the seed that the server sent."""
        draws = torch.Generator().manual_seed(seed)
        if self.context.modality == ClientTask.IMAGE_CLASSIFICATION:
            return {"pixel_values": simclr_views(probe["pixel_values"], draws)}
        ids = drop_tokens(probe["input_ids"], probe["attention_mask"], 0.15, draws, self.context.tokenizer.unk_token_id)
        return {"input_ids": ids, "attention_mask": probe["attention_mask"]}

    def retrain(self, message: FedMMKTTargets, *, round: int) -> Done:
        """C2: eq. 13 (l-: eq. 32) on the kept samples, then eq. 1 on private data."""
        if self.probe is None or len(message.kept) != len(next(iter(self.probe.values()))):
            raise ValueError(f"round {round}: asked to re-train on {len(message.kept)} samples it was not shown")
        kept = torch.from_numpy(message.kept)
        lesson = {key: value[kept] for key, value in self.probe.items()}
        self.probe = None
        lesson["labels"] = torch.from_numpy(message.labels).long()
        if message.representations is not None:
            lesson["fused"] = torch.from_numpy(message.representations)
        self.pool.add(lesson)
        loss = self._synthetic(round)
        if not self.settings.mix:
            self.context.train_private(self.settings.private_steps, round)
        return Done(loss or 0.0)

    def _synthetic(self, round: int) -> float | None:
        """L_syn: cross-entropy to the voted label, plus lambda times the distance to the fused representation."""
        context, s = self.context, self.settings
        pool = self.pool.samples()
        if not pool:
            return None
        inputs = {key: pool[key] for key in pool if key not in ("labels", "fused")}
        private = context.rng(round, "mix")

        def objective(views: Inputs, index: Tensor) -> Tensor:
            z = context.model.encode(**views)  # type: ignore[operator]
            loss = F.cross_entropy(context.model.classify(z), pool["labels"][index])  # type: ignore[operator]
            if s.kl_weight and "fused" in pool:
                target = pool["fused"][index]
                loss = loss + s.kl_weight * align_loss(
                    z, target, kind=s.align, direction=s.align_direction, temperature=s.align_temperature
                )
            if s.mix:
                i = torch.from_numpy(private.integers(0, len(context.private_labels), len(index)))
                loss = loss + context.task_loss(rows(context.private, i), i)
            return loss

        steps = s.steps_on(len(pool["labels"]), s.retrain_steps, context.batch)
        return context.fit(inputs, steps, objective, round, "synthetic")


# ---------------------------------------------------------------------------------------------------- the server


class FedMMKTServer(Server):
    """The server of FedMMKT: synthesis, LabVote, MultiRepFusion, tuning of the generator."""

    settings: FedMMKTSettings
    tuner: Kept[Tuner]
    attention: Kept[LearnedCrossAttention | None]

    @classmethod
    def workload(cls, settings: FedMMKTSettings, batch: int) -> Workload:
        """Synthesis, answers, tuning, re-training and private steps."""
        s = settings
        return replace(
            s.workload(),
            answers=(2 if s.variant == "u" else 1) * s.samples,
            shared_steps=s.steps_on(s.samples * s.replay_rounds, s.retrain_steps, batch),
            formula=_formula(s, s.samples),
        )

    def __init__(self, context: ServerContext, settings: FedMMKTSettings) -> None:
        super().__init__(context, settings)
        self.tuner = Tuner(context, settings)
        self.attention = None
        if settings.attention == "mha" and settings.variant == "full":
            with global_torch_stream(context.seed, "server", "attention"):
                self.attention = LearnedCrossAttention(context.width, settings.attention_heads)

    def round(self, federation: Federation) -> Info:
        """One round, in the order of the paper."""
        t, s, context, clock = federation.round, self.settings, self.context, Clock()

        with clock("synthesis"):  # S1, eq. 2
            drawn = self._draw_classes(t)
            images = context.generator.synthesize([context.prompts[c] for c in drawn], context.draws(t, "synthesis"))
            captions = (
                context.captioner.caption(images)
                if federation.clients_of(ClientTask.TEXT_CLASSIFICATION) or s.train_text != "prompt"
                else ()
            )

        with clock("inference"):  # M1, C1, M2
            seed = int(context.rng(t, "views").integers(2**31))
            probes: dict[str, object] = {
                ClientTask.IMAGE_CLASSIFICATION: FedMMKTPictures(images, seed),
                ClientTask.TEXT_CLASSIFICATION: FedMMKTCaptions(tuple(captions), seed),
            }
            messages = {k: probes[federation.modality(k)] for k in federation.clients}
            replies = [
                r for r in federation.ask("infer", messages, timeout=context.timeout, quorum=context.quorum) if r.ok
            ]
            replies.sort(key=lambda r: r.client)  # neither order of arrival nor of listing may matter

        with clock("fusion"):  # S2 and S3
            opinions = ClientOutputs(replies, len(drawn), len(context.class_names), context.width)
            if s.variant == "l":
                labels, kept, fused = self._aggregate_logits(opinions, drawn, len(federation.clients))
            else:
                labels, kept = self._vote(opinions, drawn, len(federation.clients))
                fused = self._fuse(opinions, kept, t) if s.fusion and kept.any() else None

        lesson = FedMMKTTargets(
            kept.numpy(),
            labels[kept].to(torch.int32).numpy(),
            None if fused is None else fused.numpy(),
        )
        answering = [r.client for r in opinions.replies]
        losses: dict[str, float | None] = {}
        # M3 goes out before the generator is tuned: clients in other processes re-train meanwhile.
        with clock("retraining"):  # those in this process re-train now
            learning = (
                federation.ask("retrain", dict.fromkeys(answering, lesson), timeout=context.timeout)
                if answering
                else ()
            )
        with clock("generator"):  # S4, eqs. 11-12
            self.tuner.add(
                images[kept.numpy()],
                labels[kept],
                [captions[i] for i in torch.where(kept)[0]] if captions else [],
                fused,
            )
            losses["generator"] = self.tuner.tune(t) if kept.any() else None
        with clock("retraining"):  # C2, eq. 13
            trained = {r.client: r.message.loss for r in learning if r.ok}
            losses["clients"] = float(np.mean([trained[k] for k in sorted(trained)])) if trained else None

        info = LabelInfo(images, tuple(captions), drawn, labels.numpy(), kept.numpy())
        paper = paper_bytes(_formula(s, len(drawn)), federation, self.context)
        return Info(info, losses, clock.seconds, paper)

    def _draw_classes(self, t: int) -> NDArray[np.int64]:
        """c_1..c_S: each class equally often and shuffled, or uniform."""
        n, classes, rng = self.settings.samples, len(self.context.class_names), self.context.rng(t, "classes")
        if self.settings.classes == "uniform":
            return rng.integers(0, classes, n)
        whole = np.concatenate([rng.permutation(classes) for _ in range(-(-n // classes))])[:n]
        return rng.permutation(whole).astype(np.int64)

    def _vote(self, o: ClientOutputs, drawn: NDArray[np.int64], clients: int) -> tuple[Tensor, Tensor]:
        """LabVote, eqs. 3-5: labels (S,) with -1 where nobody voted, kept (S,) bool."""
        s, c = self.settings, torch.from_numpy(drawn)
        if not s.labvote:
            return c, torch.ones(len(c), dtype=torch.bool)
        weights = confidence(
            o.entropies, mode=s.confidence, floor=s.entropy_floor, classes=len(self.context.class_names)
        )
        vote = label_vote(o.labels, weights, len(self.context.class_names), c)
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

    def _aggregate_logits(
        self, o: ClientOutputs, drawn: NDArray[np.int64], clients: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """l-FedMMKT, eqs. 28-31, then the filter on the clients' own answers."""
        c = torch.from_numpy(drawn)
        if not len(o.logits):
            return torch.full_like(c, -1), torch.zeros(len(c), dtype=torch.bool), None
        if not self.settings.labvote:
            return c, torch.ones(len(c), dtype=torch.bool), None
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
        return labels, quorum_filter(counts, clients, s.gamma), None


def _formula(settings: FedMMKTSettings, samples: int) -> Formula:
    """The paper's bytes of a round (its appendix E)."""
    return formula({"full": "fedmmkt", "u": "u-fedmmkt", "l": "l-fedmmkt"}[settings.variant], samples)


METHOD = Method(
    "fedmmkt",
    FedMMKTSettings,
    FedMMKTClient,
    FedMMKTServer,
    verbs,
    frozenset({"generator", "captioner"}),
    resolve=resolve,
)
