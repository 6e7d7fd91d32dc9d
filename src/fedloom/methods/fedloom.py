"""fedloom: FedMMKT's loop, in which nothing is taken for certain, and a tenth of the bytes goes up. Ours.

    down  synthetic pictures to image clients, captions of the same pictures to text clients (no labels)
    up    the most probable classes of each sample and their shares, 8 bits each
    down  where `codes` says so: which samples codes are wanted of
    up    codes: representations as a few random projections, 8 bits each
    down  which samples are kept, the probable classes of each and their shares

What FedMMKT is found to suffer from is what its parts are against, each a setting:

- *labels*: clients and the prompt are annotators of unknown reliability per class, by expectation maximisation over
  the round's answers, with what earlier rounds taught of each as a prior (`memory`); the posterior, not a label, is
  what clients and generator learn (`soft`). No quorum silences classes that few clients hold: a sample is kept where
  its posterior is at least `surest`.
- *bytes*: see above; `top` classes a sample. `codes` are asked for of doubtful samples and of the surest of each
  class: what looks alike to clients, each in its own space, is one more annotator.
- *generator*: on top of FedMMKT's public pictures, preference tuning (`preference`): towards pictures that clients
  recognised, away from those of the same prompt that they did not.
- *what to draw*: classes that clients are unreliable about, in part (`focus`).
- *clients*: answers are calibrated at home (`calibrate`); a client leaves out the samples that are farthest from its
  own data (`far`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedloom.federation.base import Federation
from fedloom.federation.exchange import Reply
from fedloom.federation.messages import Empty, Tensors
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.annotators import neighbours
from fedloom.functional.calibration import fitting_temperature, near_class_means
from fedloom.functional.codes import from_top, to_codes, to_top
from fedloom.methods.annotators import LOOKS, PROMPT, Annotators
from fedloom.methods.base import Done, Method, ServerContext
from fedloom.methods.catch_up import MissedRound, recalling
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.methods.graph import Peers
from fedloom.methods.preference import Preferences
from fedloom.methods.replies import Ballots, ClientOutputs
from fedloom.methods.shared_client import SharedClient
from fedloom.methods.shared_messages import ASKED, RoundSettings, SharedLogits
from fedloom.methods.shared_samples import Aggregate, SharedSamples, SharedServer, answered
from fedloom.methods.state import Kept
from fedloom.methods.tuning import Tuner

Array = NDArray[Any]
SURE = 0.9  # posterior from which others may look at a sample, or it is accepted
ANCHORS = 4  # sure samples of each class whose codes are asked for
PAIRS = 0.25  # of preference tuning, a synthetic sample


class FedloomSettings(RoundSettings):
    """Parts that did not help on the tuning seeds are off; docs/methods/fedloom.md has what was seen."""

    memory: float = Field(0.0, ge=0, lt=1, description="weight of what earlier rounds taught of each annotator")
    rejudge: bool | None = Field(
        None,
        exclude_if=lambda rejudge: rejudge is None,
        description="annotate all rounds of the pool together, and correct earlier rounds' lessons; null: where "
        "`participation` is set",
    )
    evidence: float = Field(1.0, gt=0, le=1, description="weight of annotators' evidence: they are wrong together")
    soft: bool = Field(False, description="clients and generator learn the posterior; off: the most probable label")
    surest: float = Field(0.5, ge=0, le=1, description="least posterior of a sample that is learned; 0: all are")
    top: int = Field(3, ge=1, le=255, description="classes of an answer, and of what is to be learned")
    codes: int = Field(0, ge=0, le=4096, description="random projections that doubtful samples are compared in; 0: not")
    preference: float = Field(0.0, ge=0, allow_inf_nan=False, description="weight of preference tuning; 0: none")
    preference_strength: float = Field(20.0, gt=0, allow_inf_nan=False, description="beta of preference tuning")
    focus: float = Field(0.0, ge=0, le=1, description="share of samples drawn where clients are unreliable")
    calibrate: bool = Field(False, description="each client scales its scores by what its own samples ask for")
    far: float = Field(
        0.1, ge=0, lt=1, description="share of a round that a client leaves out: the farthest from its own"
    )
    mix: bool = Field(False, description="add a private batch to each synthetic one instead of private steps after")

    @model_validator(mode="after")
    def _one_past(self) -> Self:
        if self.rejudge and self.memory:
            raise ValueError(f"memory = {self.memory}, allowed with rejudge = true: 0")
        return self

    @property
    def keeps_origin(self) -> bool:
        """Preferences are relative to the untouched generator."""
        return bool(self.preference) or super().keeps_origin


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class FedloomAnswers:
    """Up: the most probable classes of each sample, and their shares in 1/255; all zeros: no finite answer."""

    classes: Annotated[Array, Wire("uint16", ("S", "k"), low=0, high=65_535)]
    shares: Annotated[Array, Wire("uint8", ("S", "k"), low=0, high=255)]


@dataclass(frozen=True)
class FedloomWanted:
    """Down: which of the samples just asked about codes are wanted of, and the seed of their directions."""

    wanted: Annotated[Array, Wire("bool", ("S",))]
    seed: int


@dataclass(frozen=True)
class FedloomCodes:
    """Up: random projections of representations, 8 bits each."""

    codes: Annotated[Array, Wire("int8", ("M", "m"), low=-127, high=127)]


@dataclass(frozen=True)
class FedloomTargets:
    """Down: which samples are to be learned, their probable classes, and those' shares in 1/255; with `rejudge`, of all
    samples of earlier rounds, too (round -> (S, k))."""

    kept: Annotated[Array, Wire("bool", ("S",))]
    classes: Annotated[Array, Wire("uint16", ("M", "k"), low=0, high=65_535)]
    shares: Annotated[Array, Wire("uint8", ("M", "k"), low=0, high=255)]
    new_classes: Annotated[Mapping[str, Array], Tensors("uint16", low=0, high=65_535)] | None = None
    new_shares: Annotated[Mapping[str, Array], Tensors("uint8", low=0, high=255)] | None = None


# ---------------------------------------------------------------------------------------------------- the client


class FedloomClient(SharedClient):
    """Answers in few bytes; learns what is probable, of samples that are like its own."""

    settings: FedloomSettings
    private_stream = ("mix",)
    looked: Kept[Tensor | None]  # representations (S, D) of what was asked about last
    count: Kept[int]  # C

    def __init__(self, context: ClientContext, settings: FedloomSettings) -> None:
        super().__init__(context, settings)
        self.looked, self.count = None, 0

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> FedloomAnswers:
        """The `top` most probable classes."""
        self.looked, self.count = z if self.settings.codes else None, logits.shape[1]
        return FedloomAnswers(*to_top((logits / self._temperature()).softmax(1), self.settings.top))

    def _temperature(self) -> float:
        """Under which its own samples, as they are trained on, are most probable."""
        context = self.context
        if not self.settings.calibrate or not len(context.private_labels):
            return 1.0
        seen = context.views(context.private, context.draws("calibration"))
        return fitting_temperature(context.look(seen)[1], context.private_labels)

    def show(self, message: FedloomWanted, *, round: int) -> FedloomCodes:
        """Codes of the samples that the server wants to compare."""
        if self.looked is None or len(self.looked) != len(message.wanted):
            raise ValueError(f"round {round}: asked for codes of {len(message.wanted)} samples it was not shown")
        z = self.looked[torch.from_numpy(message.wanted)]
        return FedloomCodes(to_codes(z, self.settings.codes, message.seed))

    def recall(self, message: MissedRound, *, round: int) -> Empty:
        """One that has never answered does not know yet how many classes there are."""
        found = super().recall(message, round=round)
        assert self.samples is not None
        self.looked, self.count = None, self.context.look(rows(self.samples, slice(0, 1)))[1].shape[1]
        return found

    def targets(self, message: FedloomTargets, kept: Tensor) -> dict[str, Tensor]:
        """The posterior, and how much each sample counts: not at all where it is far from the client's own."""
        assert self.samples is not None
        posterior = from_top(message.classes, message.shares, self.count).float()
        weight = torch.ones(len(posterior))
        if self.settings.far and len(posterior) and len(self.context.private_labels):
            weight = self._near(rows(self.samples, kept))
        self.looked = None
        return {"posterior": posterior, "weight": weight}

    def revised(self, message: FedloomTargets) -> dict[int, dict[str, Tensor]]:
        """Posteriors."""
        new, shares = message.new_classes or {}, message.new_shares or {}
        return {int(at): {"posterior": from_top(new[at], shares[at], self.count).float()} for at in new}

    def _near(self, inputs: Inputs) -> Tensor:
        """0.0 (M,) of the share `far` of samples that are farthest from the client's class means, 1.0 of the others."""
        context = self.context
        return near_class_means(
            context.encode(inputs), context.encode(context.private), context.private_labels, self.settings.far
        )

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """Cross-entropy to the posterior, mean over the samples that count."""
        said = self.context.model(**views).log_softmax(1)
        each, weight = -(pool["posterior"][i] * said).sum(1), pool["weight"][i]
        loss: Tensor = (weight * each).sum() / weight.sum().clamp(min=1.0)
        return loss + self.private_loss(len(i)) if self.settings.mix else loss

    def local_update(self, round: int) -> float | None:
        """Synthetic samples first; then private ones, unless each step has had its own."""
        return self.on_shared(round) if self.settings.mix else super().local_update(round)


# ---------------------------------------------------------------------------------------------------- the server


class FedloomServer(SharedServer):
    """The annotators' posterior between synthesis and the tuning of the generator."""

    settings: FedloomSettings
    annotators: Kept[Annotators]
    preferences: Kept[Preferences | None]

    def __init__(self, context: ServerContext, settings: FedloomSettings) -> None:
        super().__init__(context, settings)
        self.annotators, self.preferences = Annotators(settings), None
        self._belief: Tensor | None = None  # of this round's samples, (S, C)
        if settings.preference and self.tuner is not None:
            how = {"strength": settings.preference_strength, "share": PAIRS, "sure": SURE}
            self.preferences = Preferences(self.tuner, context.prompts, **how)
            loss = self.preferences.loss
            self.tuner.also = lambda n, rng, draws: settings.preference * loss(n, rng, draws)

    def classes(self, t: int) -> NDArray[np.int64]:
        """What to draw: as FedMMKT does, but for the share `focus`, by need."""
        drawn, focus = super().classes(t), self.settings.focus
        if self.annotators.need is not None and focus:
            rng, n = self.context.rng(t, "focus"), round(focus * len(drawn))
            there = self.context.classes_at(t)
            need = self.annotators.need[torch.from_numpy(there)]
            needed = rng.choice(there, n, p=(need / need.sum()).numpy())
            drawn[rng.permutation(len(drawn))[:n]] = needed
        return drawn

    def question(
        self, federation: Federation, samples: SharedSamples, wanted: Mapping[str, NDArray[np.bool_]]
    ) -> list[Reply]:
        """The replies, as scores: whoever looks at answers about shared samples knows those."""
        count = len(self.context.class_names)

        def read(reply: Reply) -> Reply:
            said = from_top(reply.message.classes, reply.message.shares, count)
            scores = torch.where(said.any(1, True), said.clamp(min=1e-6).log(), torch.nan)
            return replace(reply, message=SharedLogits(scores.float().numpy()))

        return [read(reply) for reply in super().question(federation, samples, wanted)]

    def ask(
        self,
        federation: Federation,
        samples: SharedSamples,
        wanted: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> ClientOutputs:
        """The clients' answers, and codes of what is doubtful after them."""
        outputs = super().ask(federation, samples, wanted)
        if self.settings.codes and len(outputs.replies):
            self._ask_codes(federation, samples, outputs)
        return outputs

    def _ask_codes(self, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> None:
        """Codes (K, S, m) into the outputs, zeros where there are none: of doubtful samples, and of those that are
        surest to be of each class."""
        belief = self.annotators(self._ballots(federation.round, samples, outputs))[0].posterior
        doubtful, best = belief.amax(1) < SURE, belief.argmax(1)
        for c in torch.unique(best):
            own = torch.where((best == c) & ~doubtful)[0]
            doubtful[own[belief[own, c].argsort(descending=True)[:ANCHORS]]] = True
        seed = int(self.context.rng(federation.round, "codes").integers(2**31))
        message = FedloomWanted(doubtful.numpy(), seed)
        asked = federation.ask("show", dict.fromkeys(answered(outputs), message), timeout=self.context.timeout)
        codes = torch.zeros(len(outputs.replies), len(samples), self.settings.codes)
        for reply in asked:
            if reply.ok and reply.message.codes.shape == codes[0, doubtful].shape:
                row = answered(outputs).index(reply.client)
                codes[row, doubtful] = torch.from_numpy(reply.message.codes.astype(np.float32))
        outputs.codes = codes

    def _ballots(self, t: int, samples: SharedSamples, outputs: ClientOutputs) -> Ballots:
        """Annotators and their answers (V, S, C): the clients', and the prompt's."""
        drawn = torch.from_numpy(samples.labels)
        said = outputs.logits.double().softmax(2).nan_to_num() * outputs.present[:, :, None]
        answers = torch.cat([said, F.one_hot(drawn, len(self.context.class_names))[None].double()])
        return Ballots(t, (*answered(outputs), PROMPT), answers, answers.sum(0), drawn)

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """The posterior of each sample, and who is to learn what."""
        s, clients = self.settings, answered(outputs)
        now = self._ballots(t, samples, outputs)
        found, revised = self.annotators(now)
        if (codes := outputs.codes) is not None:
            looks = neighbours(codes, codes.any(2), found.posterior, sure=SURE)
            answers = torch.cat([now.answers, looks[None]])
            now = replace(now, voters=(*now.voters, LOOKS), answers=answers, start=found.posterior)
            found, revised = self.annotators(now)
        self.annotators.settle(now, found)
        there = outputs.present.any(0)  # what no client has an answer about is nobody's lesson
        posterior = self._belief = found.posterior * there[:, None]
        labels, kept = posterior.argmax(1).masked_fill(~there, -1), there & (posterior.amax(1) >= s.surest)
        taught, revised = self._taught(posterior), {at: self._taught(q) for at, q in revised.items()}
        message = FedloomTargets(kept.numpy(), *to_top(taught[kept], s.top))
        if new := {str(at): to_top(q, s.top) for at, q in revised.items()}:
            pairs = {k: classes for k, (classes, _) in new.items()}, {k: shares for k, (_, shares) in new.items()}
            message = replace(message, new_classes=pairs[0], new_shares=pairs[1])
        facts = {"posterior_mean": float(posterior.amax(1).mean())}
        votes = ((outputs.labels == labels) & outputs.present).sum(0)
        return Aggregate(labels, dict.fromkeys(clients, message), None, None, kept, votes, facts, taught, revised)

    def _taught(self, posterior: Tensor) -> Tensor:
        """What is learned of a posterior (S, C)."""
        return posterior if self.settings.soft else F.one_hot(posterior.argmax(1), posterior.shape[1]).double()

    def corrected(self, probable: Tensor, message: FedloomTargets) -> FedloomTargets:
        """With another posterior."""
        return FedloomTargets(message.kept, *to_top(probable[torch.from_numpy(message.kept)], self.settings.top))

    def _tune(self, tuner: Tuner, t: int, samples: SharedSamples, found: Aggregate, kept: Tensor) -> float | None:
        """With what was accepted and refused of this round."""
        if self.preferences is not None and self._belief is not None:  # doubts are no pairs, whatever clients learn
            self.preferences.add(samples.images, samples.labels, self._belief)
        return super()._tune(tuner, t, samples, found, kept)


# ---------------------------------------------------------------------------------------------------- the method


def _verbs(settings: FedloomSettings) -> dict[str, tuple[Any, Any]]:
    """Verb to what goes down and what comes up."""
    codes = {"show": (FedloomWanted, FedloomCodes)} if settings.codes else {}
    return {"infer": (ASKED, FedloomAnswers), **codes, "learn": (FedloomTargets, Done), **recalling(settings)}


METHOD = Method(
    "fedloom",
    FedloomSettings,
    FedloomClient,
    FedloomServer,
    _verbs,
    lambda settings: settings.tools("generator", "captioner"),
    peers=Peers(FedloomServer, moves=True),
)
