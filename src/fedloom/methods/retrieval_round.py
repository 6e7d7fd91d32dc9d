"""What methods have in common that exchange representations of public pairs, whatever each client's own task is.

    down  the public pairs, once; then each round what the method says (`targets`)
    up    each round the client's representations of the public pictures, of the texts, or of both

The scene of CreamFL and FedAFD. Clients classify pictures, classify texts, or find pictures by texts; no two need the
same classes. The server has a picture and a text encoder, trained by matching on the public pairs, and learns from the
clients' representations by distillation. All representations that cross have unit length.

All methods train classifiers by the same loss, CE + 0.5 CE(V V^T, own class) with V = relu(W) of the head, as FedAFD's
code has it in the method and in its Local; CreamFL's has a margin besides. Distillation targets are weighted means of
the clients' unit rows, not brought back to unit length, in all of them: so CreamFL's and FedAFD's code. A round has
`private_steps` + `shared_steps` private batches and `shared_steps` public ones, and as many steps of the client's
optimiser as private batches.

One optimiser for matching and distillation, as in the authors' code: gamma then weighs the one against the other. (With
an AdamW of its own distillation took full steps whatever its weight, and ruined the server's retrieval.) Ours, because
the papers are silent: steps in place of epochs, so that methods can be compared at equal numbers of them; the client
carries the public set's name with its answer, and an answer about another set is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.messages import sendable
from fedloom.functional.matching import PairMatching, class_spread, margin_cross_entropy
from fedloom.functional.norms import unit
from fedloom.functional.similarity import distillation_distance
from fedloom.methods.base import Client, Done, Info, Server, ServerContext
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.methods.replies import Clock
from fedloom.methods.retrieval_context import RetrievalContext, of_kind
from fedloom.methods.retrieval_messages import (
    MODALITIES,
    EnsembleSettings,
    PublicSet,
    RetrievalSettings,
    Views,
    kinds_of,
    name_of,
)
from fedloom.methods.shared_client import length
from fedloom.methods.shared_samples import public_samples
from fedloom.methods.sound import repeatable, without_faults
from fedloom.methods.state import Kept
from fedloom.methods.suspects import Suspects, of_views
from fedloom.methods.workload import Workload
from fedloom.models.fit import adamw, fit, index_batches
from fedloom.seeding import global_torch_stream
from fedloom.tasks import ClientTask, Modality

Array = NDArray[Any]
log = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------------- the client


class RetrievalClient(Client):
    """Holds the public set, learns (`local_update`), and says what it makes of the public set."""

    settings: RetrievalSettings
    public: Kept[Inputs]
    public_name: Kept[str]

    def __init__(self, context: ClientContext, settings: RetrievalSettings) -> None:
        super().__init__(context, settings)
        self.public, self.public_name = {}, ""

    def hold(self, message: PublicSet, *, round: int) -> Done:
        """Take the public set in."""
        self.public = {}
        for samples in (message.images, message.texts):
            if samples is not None:
                self.public |= self.context.stored(samples)
        self.public_name = message.name
        return Done(0.0)

    def learn(self, message: Any, *, round: int) -> Views:
        """A round of training, and what comes of it."""
        if message.public != self.public_name:
            raise ValueError(f"round {round}: asked about public set {message.public}, holds {self.public_name!r}")
        loss = self.local_update(message, round)
        return Views(self.public_name, loss or 0.0, **{m: z.numpy() for m, z in self.spoken().items()})

    def local_update(self, message: Any, round: int) -> float | None:
        """The steps of a round; mean loss of the own task."""
        raise NotImplementedError

    def task_loss(self, inputs: Inputs, index: Tensor) -> Tensor:
        """Matching of pairs, or `class_loss`."""
        if isinstance(self.context, RetrievalContext):
            return super().task_loss(inputs, index)
        return self.class_loss(self.context.model(**self.context.ready(inputs)), index)

    def class_loss(self, logits: Tensor, index: Tensor) -> Tensor:
        """Cross-entropy of private samples `index` (B,) with the margin, and the spread of the classes."""
        model: Any = self.context.model
        known = margin_cross_entropy(logits, self.context.private_labels[index], self.settings.margin)
        return known + class_spread(model.head.weight, self.settings.spread)

    def private_beside(self, *names: object) -> Callable[[int], tuple[Inputs, Tensor]]:
        """Gives training views of n private samples drawn at random, and which they are: for steps on public ones."""
        context = self.context
        rng, draws = context.rng(*names, "beside"), context.draws(*names, "beside", "views")

        def take(n: int) -> tuple[Inputs, Tensor]:
            own = torch.from_numpy(rng.integers(0, len(context.private_labels), n))
            return context.views(rows(context.private, own), draws), own

        return take

    def spoken(self) -> dict[Modality, Tensor]:
        """The raw encoders' unit representations (P, D) of the public set, by kind."""
        return {
            m: unit(torch.nan_to_num(self.context.encode(of_kind(self.public, m))))
            for m in kinds_of(self.context.modality)
        }

    def on_public(
        self, steps: int, objective: Callable[[Mapping[Modality, Tensor], Tensor], Tensor], *names: object
    ) -> float | None:
        """`steps` steps on the public set; `objective` gets unit representations (B, D) by kind, and indices (B,)."""
        model: Any = self.context.model
        kinds = kinds_of(self.context.modality)

        def loss(views: Inputs, i: Tensor) -> Tensor:
            return objective({m: unit(model.encode(**of_kind(views, m))) for m in kinds}, i)

        return self.context.fit(self.public, steps, loss, *names, "public")


# ---------------------------------------------------------------------------------------------------- the server


class RetrievalServer(Server):
    """Two encoders on public pairs. Methods define `targets` (what is sent) and `ensemble` (what is believed)."""

    settings: EnsembleSettings
    suspects: Kept[Suspects]
    models: Kept[dict[Modality, ClientContext]]
    matching: Kept[PairMatching]
    optimizer: Kept[torch.optim.Optimizer]
    holders: Kept[set[str]]  # clients that hold the public set

    @classmethod
    def workload(cls, settings: RetrievalSettings, batch: int) -> Workload:
        """Private batches, also those beside public ones, and public ones; the server's matching and distillation."""
        s = settings
        own, steps = s.private_steps + s.shared_steps, s.server_steps + s.distill_steps
        return Workload(private_steps=own, shared_steps=s.shared_steps, server_steps=steps)

    def __init__(self, context: ServerContext, settings: EnsembleSettings) -> None:
        super().__init__(context, settings)
        if context.models is None:
            raise BadInput("a method on public pairs needs encoders on the server, and this run has none")
        self.pairs = public_samples(context, settings.public)
        self.name = name_of(self.pairs)
        self.models = {m: context.models(ClientTask(m)) for m in MODALITIES}
        self.public = {
            Modality.IMAGE: self.models[Modality.IMAGE].stored(self.pairs.images),
            Modality.TEXT: self.models[Modality.TEXT].inputs(self.pairs.texts),
        }
        self.matching = PairMatching()
        both = [p for own in self.models.values() for p in own.model.parameters()]
        self.optimizer = adamw([*both, *self.matching.parameters()], settings.server_rate)
        self.holders = set()
        self.suspects = Suspects(getattr(settings, "leave_out_after", None))  # Standalone's server asks nobody

    def round(self, federation: Federation) -> Info:
        """The server learns from its pairs; the clients, from the server; the server, from the clients."""
        t, clock = federation.round, Clock()
        with clock("server"):
            losses = {"server matching": self.match(t, self.settings.server_steps)}
            bank = self.bank()
        with clock("clients"):
            self.share(federation)
            views = self.exchange(t, federation, bank)
            said = [views[k].loss for k in sorted(views)]
            losses["clients"] = float(np.mean(said)) if said else None
        with clock("fusion"):
            losses |= self.distil(t, federation, views, bank)
            kinds = {k: kinds_of(federation.modality(k)) for k in views}
            suspects = self.suspects.standings(of_views(views, kinds))
        return Info(losses=losses, seconds=clock.seconds, formula=self.paper_bytes(federation), suspects=suspects)

    # ------------------------------------------------------------------------------------------ stage 1, the server

    def match(self, t: int, steps: int) -> float | None:
        """Matching of public pictures and texts."""
        return self._fit(t, "matching", steps, lambda i, draws: self._matching_loss(i, draws))

    def _matching_loss(self, i: Tensor, draws: Mapping[Modality, torch.Generator]) -> Tensor:
        """Of training views of public pairs i (B,), a pair's share."""
        z = {m: self._encode(m, context.views(rows(self.public[m], i), draws[m])) for m, context in self._each()}
        total: Tensor = self.matching(z[Modality.IMAGE], z[Modality.TEXT])
        return total / len(i)

    def _fit(
        self,
        t: int,
        what: str,
        steps: int,
        loss: Callable[[Tensor, Mapping[Modality, torch.Generator]], Tensor],
        wanted: Tensor | None = None,
    ) -> float | None:
        """Steps of both encoders on public pairs; loss: of indices (B,) and the streams of training views.

        wanted: bool (P,), batches without one of these are left out.
        """
        for context in self.models.values():
            context.model.train()
        draws = {m: self.context.draws(t, what, m) for m in MODALITIES}
        batch = min(context.batch for context in self.models.values())
        cut = index_batches(length(self.public[Modality.IMAGE]), batch, steps, self.context.rng(t, what))
        batches = [torch.from_numpy(index) for index in cut]
        if wanted is not None:
            batches = [i for i in batches if wanted[i].any()]
        with global_torch_stream(self.context.seed, "server", t, what, "dropout"):
            return fit(self.optimizer, batches, lambda i: loss(i, draws), name=f"server {what}, round {t}")

    def bank(self) -> dict[Modality, Tensor]:
        """I_g and T_g: unit representations (P, D) of the public set, by deterministic transforms, no dropout."""
        return {m: unit(context.encode(self.public[m])) for m, context in self._each()}

    # ----------------------------------------------------------------------------------------- stage 2, the clients

    def share(self, federation: Federation) -> None:
        """The public set, to those that do not hold it."""
        new = [k for k in federation.clients if k not in self.holders]
        if not new:
            return

        def message(client: str) -> PublicSet:
            kinds = kinds_of(federation.modality(client))
            return PublicSet(
                self.name,
                self.pairs.images if Modality.IMAGE in kinds else None,
                sendable(self.pairs.texts) if Modality.TEXT in kinds else None,
            )

        replies = federation.ask("hold", {k: message(k) for k in new}, timeout=self.context.timeout)
        self.holders |= {r.client for r in replies if r.ok}

    def exchange(self, t: int, federation: Federation, bank: Mapping[Modality, Tensor]) -> dict[str, Views]:
        """Lessons out, views in: client -> what it said, of those whose answer counts."""
        messages = {k: self.targets(k, federation.modality(k), bank) for k in federation.clients if k in self.holders}
        if not messages:
            return {}
        quorum = None if self.context.quorum is None else min(self.context.quorum, len(messages))
        replies = list(federation.ask("learn", messages, timeout=self.context.timeout, quorum=quorum))
        self.holders -= {r.client for r in replies if not r.ok}  # it may have lost the set with all else
        found = {
            r.client: r.message for r in replies if r.ok and r.client not in self.suspects.left_out and self._fits(r)
        }
        return {k: found[k] for k in sorted(found)}

    def targets(self, client: str, modality: str, bank: Mapping[Modality, Tensor]) -> Any:
        """What a client is sent."""
        raise NotImplementedError

    def _fits(self, reply: Any) -> bool:
        said, shape = reply.message, (len(self.pairs), self.context.width)
        for m in kinds_of(reply.modality):
            got = getattr(said, m)
            if said.public != self.name or got is None or got.shape != shape:
                what = f"public set {said.public}, {m} {None if got is None else got.shape}"
                told = (reply.round, reply.client, what, self.name, shape)
                log.warning("round %d: %s answered about %s, expected %s, %s", *told)
                return False
        return True

    # ------------------------------------------------------------------------------------ stage 3, the server again

    def distil(
        self, t: int, federation: Federation, views: Mapping[str, Views], bank: Mapping[Modality, Tensor]
    ) -> dict[str, float | None]:
        """The encoders learn what the clients said, each kind of which there is an owner."""
        s = self.settings
        believed = repeatable(partial(self._believed, federation, bank), self)
        targets, told = without_faults(federation, "learn", views, believed)
        kept = {m: target.any(-1) for m, target in targets.items()}
        if not s.together and not any(k.any() for k in kept.values()):
            return told

        def loss(i: Tensor, draws: Mapping[Modality, torch.Generator]) -> Tensor:
            total = torch.zeros(())
            for m, target in targets.items():
                here = i[kept[m][i]]
                if len(here):
                    z = self._encode(m, rows(self.public[m], here))
                    total = total + distillation_distance(z, target[here], s.distance)
            return s.gamma * total + (self._matching_loss(i, draws) if s.together else 0.0)

        wanted = None if s.together else torch.stack(list(kept.values())).any(0)
        told["distillation"] = self._fit(t, "distillation", s.distill_steps, loss, wanted)
        return told

    def _believed(
        self, federation: Federation, bank: Mapping[Modality, Tensor], views: Mapping[str, Views]
    ) -> tuple[dict[Modality, Tensor], dict[str, float | None]]:
        """What the clients said of each kind, put together (P, D), and how even their weights are."""
        targets, told = dict[Modality, Tensor](), dict[str, float | None]()
        for m in MODALITIES:
            said = [getattr(v, m) for k, v in views.items() if m in kinds_of(federation.modality(k))]
            if said:
                z = torch.stack([torch.from_numpy(each) for each in said])  # (K, P, D)
                # Unit rows: no client gains weight by sending longer ones.
                targets[m], told[f"weight entropy {m}"] = self.ensemble(m, unit(z), z.any(-1), bank)
                if not torch.isfinite(targets[m]).all():
                    raise ValueError(f"what clients say of {m}s is not finite together")
        return targets, told

    def ensemble(
        self, m: Modality, z: Tensor, present: Tensor, bank: Mapping[Modality, Tensor]
    ) -> tuple[Tensor, float | None]:
        """What is believed of the clients' z (K, P, D): (P, D), zero where nobody is; and the weights' mean entropy."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- the rest

    def paper_bytes(self, federation: Federation) -> tuple[int, int] | None:
        """A round's representations in single precision, without headers: up, and down of both kinds."""
        one = 4 * len(self.pairs) * self.context.width
        up = sum(one * len(kinds_of(federation.modality(k))) for k in federation.clients)
        return up, 2 * one * len(federation.clients)

    def embed(self, modality: Modality, samples: Any) -> Tensor:
        """Unit representations of any pictures or texts."""
        context = self.models[modality]
        return unit(context.encode(context.stored(samples)))

    def _each(self) -> list[tuple[Modality, ClientContext]]:
        return list(self.models.items())

    def _encode(self, m: Modality, inputs: Inputs) -> Tensor:
        context = self.models[m]
        return unit(context.model.encode(**context.ready(inputs)))  # type: ignore[operator]
