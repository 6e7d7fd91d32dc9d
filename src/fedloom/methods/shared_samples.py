"""What methods have in common that learn from samples which everybody sees: which, and the server's round.

The samples are the round's synthetic ones, as FedMMKT draws them (then the server tunes its generator on what the
method makes of them), or a public set of P pairs of picture and text that each client is sent once (no generator).
Which of the two is the setting `shared`; a method is compared with FedMMKT under either (its Tables I, III to V).

Ours, because the papers are silent: the public set is drawn from the generic part of the data, which no client holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedloom.errors import BadInput
from fedloom.federation.base import Federation
from fedloom.federation.exchange import Reply
from fedloom.federation.messages import sendable
from fedloom.functional.diagnostics import alignment_error, client_drift, gradient_variance
from fedloom.methods.base import Info, LabelInfo, Server, ServerContext
from fedloom.methods.catch_up import CatchUp
from fedloom.methods.collapse import CollapseGuard, kept_state, means
from fedloom.methods.replies import ClientOutputs, Clock
from fedloom.methods.robust import combined
from fedloom.methods.shared_messages import RoundSettings, SharedAgain, SharedPictures, SharedSettings, SharedTexts
from fedloom.methods.sound import repeatable, without_faults
from fedloom.methods.state import Kept, Stateful
from fedloom.methods.suspects import Suspects, of_outputs
from fedloom.methods.tuning import Tuner
from fedloom.methods.workload import Workload, formula, paper_bytes
from fedloom.tasks import ClientTask

Array = NDArray[Any]


@dataclass(frozen=True)
class SharedSamples:
    """A round's shared samples. labels: the classes they were drawn for; of a public set its names."""

    images: NDArray[np.uint8]
    texts: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def public_samples(context: ServerContext, n: int) -> SharedSamples:
    """The public set: n pictures of the generic part with their captions, the same ones in every run of a seed.

    Raises BadInput where the data set has no generic part.
    """
    generic = context.public
    if generic is None:
        raise BadInput("this data set has no generic part to draw a public set from")
    pick = np.sort(context.rng("public set").permutation(len(generic))[:n])
    captions = tuple(generic.captions[i] for i in pick)  # `texts`, where there are any, belong to no picture
    return SharedSamples(generic.images[pick], captions, generic.names[pick])


@dataclass(frozen=True)
class Aggregate:
    """What a method makes of a round's answers.

    labels: (S,), -1 where it has none; targets: client -> message to learn from; fused: R (M, D) of the samples that
    are kept, or None where the generator is tuned by text alone; losses: of what the server trained besides; kept:
    bool (S,), on which the generator is tuned; None: all that have a label. votes: (S,), raw ones for the label, where
    clients vote; facts: of the method's inner life, for people; posterior: (S, C), probabilities of the classes, that
    the generator learns in place of the labels. revised: earlier round -> what its samples are now taken for, (S, C).
    """

    labels: Tensor
    targets: Mapping[str, Any]
    fused: Tensor | None = None
    losses: Mapping[str, float | None] | None = None
    kept: Tensor | None = None
    votes: Tensor | None = None
    facts: Mapping[str, float | None] = field(default_factory=dict)
    posterior: Tensor | None = None
    revised: Mapping[int, Tensor] = field(default_factory=dict)


class SharedServer(Server):
    """The round of all these methods; `aggregate` is the method's own part."""

    settings: RoundSettings
    tuner: Kept[Tuner | None]
    holders: Kept[set[str]]  # clients that hold the public set
    guard: Kept[CollapseGuard | None]
    suspects: Kept[Suspects]
    missed: Kept[CatchUp]
    formula: str | None = None  # its name in `metrics.communication`
    learn_verb = "learn"

    @classmethod
    def formula_name(cls, settings: Any) -> str | None:
        """The name of the formula of a round's bytes; None: no paper gives one."""
        return cls.formula

    @classmethod
    def workload(cls, settings: RoundSettings, batch: int) -> Workload:
        """Steps on the shared samples and private ones; of the generator, where the samples are synthetic."""
        s, p, name = settings, settings.public_pairs, cls.formula_name(settings)
        pool, answers = (p, p) if p else (s.samples * s.replay_rounds, s.samples)
        return replace(
            Workload(private_steps=s.private_steps) if p else s.workload(),
            answers=answers,
            checked=s.check_each if s.rollback is not None and not p else 0,
            shared_steps=s.steps_on(pool, s.retrain_steps, batch),
            formula=formula(name, answers, p or None) if name else None,
        )

    def __init__(self, context: ServerContext, settings: RoundSettings) -> None:
        super().__init__(context, settings)
        self.tuner = None if settings.public_pairs else Tuner(context, settings, watch=settings.diagnostics)
        self.holders, self.suspects = set(), Suspects(settings.leave_out_after)
        rounds = 1 if settings.public_pairs else settings.replay_rounds
        self.missed = CatchUp(rounds, self.learn_verb, bool(settings.public_pairs))
        self.guard = None
        if self.tuner is not None and settings.rollback is not None:
            self.guard = CollapseGuard(settings.rollback)

    def round(self, federation: Federation) -> Info:
        """Shared samples out, answers in, targets out; then the generator, on synthetic samples."""
        t, context, clock = federation.round, self.context, Clock()
        caught_up = self._catch_up(federation, clock)
        before = kept_state(self.tuner) if self.guard and self.tuner else None
        if self.guard and not self.guard.best:
            with clock("check"):
                self.guard.begin(*self._checked(federation))
        with clock("synthesis"):
            samples = self.draw(t, federation)
        with clock("inference"):
            outputs = self.ask(federation, samples)
        with clock("fusion"):
            found, outputs = self.sound(t, federation, samples, outputs)
            suspects = self.suspects.standings(of_outputs(outputs, len(context.class_names)))
        # Targets go out before the generator is tuned: clients in other processes learn from them meanwhile.
        with clock("retraining"):  # those in this process learn now
            verb, targets = self.learn_verb, dict(found.targets)
            learning = federation.ask(verb, targets, timeout=context.timeout) if targets else ()
            if self.settings.catch_up:
                self.missed.revise(federation, {at: partial(self.corrected, now) for at, now in found.revised.items()})
                self.missed.keep(t, samples.images, samples.texts, self.lessons(federation, targets), targets)
        losses, labels = dict(found.losses or {}), None
        if self.tuner is not None:
            kept = found.labels >= 0 if found.kept is None else found.kept
            votes = None if found.votes is None else found.votes.numpy()
            labels = LabelInfo(samples.images, samples.texts, samples.labels, found.labels.numpy(), kept.numpy(), votes)
            with clock("generator"):
                losses["generator"] = self._tune(self.tuner, t, samples, found, kept)
        with clock("retraining"):
            trained = {r.client: r.message.loss for r in learning if r.ok}
            losses["clients"] = float(np.mean([trained[k] for k in sorted(trained)])) if trained else None
        facts = {**found.facts, **caught_up, **(self._diagnostics(outputs) if self.settings.diagnostics else {})}
        if self.guard and self.tuner and before:
            with clock("check"):  # only now: clients hold what they were asked about last
                measured = self.guard.measure(*self._checked(federation))
                facts |= {**means(measured), "rolled_back": float(self.guard.undo(measured, self.tuner, before))}
        return Info(labels, losses, clock.seconds, self.paper_bytes(federation, len(samples)), facts, suspects)

    def _catch_up(self, federation: Federation, clock: Clock) -> dict[str, float]:
        """What clients have missed is taught; how many lessons, where it is the setting."""
        if not self.settings.catch_up:
            return {}
        with clock("catching up"):
            taught = self.missed.teach(federation, self.holders, self.suspects.left_out, self.context.timeout)
        return {"lessons_caught_up": float(taught)}

    def lessons(self, federation: Federation, targets: Mapping[str, Any]) -> dict[str, Any]:
        """For each task what a client of it that is away has missed: what one that was there is taught.

        Where all are taught the same, that holds for clients of a task of which nobody was there, too.
        """
        found = {str(federation.modality(k)): targets[k] for k in sorted(targets, reverse=True)}
        if len({id(message) for message in targets.values()}) == 1:
            found |= dict.fromkeys(map(str, self.context.modalities), next(iter(targets.values())))
        return found

    def corrected(self, probable: Tensor, message: Any) -> Any:
        """A lesson's message about samples that are now taken for something else, (S, C)."""
        raise NotImplementedError

    def _checked(self, federation: Federation) -> tuple[NDArray[np.uint8], NDArray[np.int64], ClientOutputs]:
        """Pictures of every class as the generator draws them now, the classes, and what clients say of them."""
        context = self.context
        labels = np.repeat(context.classes_at(1), self.settings.check_each)  # the same ones in all rounds
        prompts = [context.prompts[c] for c in labels]
        images = context.generator.synthesize(prompts, context.draws("check"))  # the same noise each time
        read = federation.clients_of(ClientTask.TEXT_CLASSIFICATION)
        texts = tuple(context.captioner.caption(images)) if read else ()
        return images, labels, SharedServer.ask(self, federation, SharedSamples(images, texts, labels))  # of all

    def _diagnostics(self, outputs: ClientOutputs) -> dict[str, float | None]:
        """What FedMMKT's convergence analysis bounds, of representations as they were sent; after the tuning."""
        image, z = [m == ClientTask.IMAGE_CLASSIFICATION for m in outputs.modalities], outputs.representations
        sent = len(z) > 0
        return {
            "alignment_error": alignment_error(z, image, outputs.present) if sent else None,
            "client_drift": client_drift(z, outputs.present) if sent else None,
            "gradient_variance": None if self.tuner is None else gradient_variance(self.tuner.norms),
        }

    def _tune(self, tuner: Tuner, t: int, samples: SharedSamples, found: Aggregate, kept: Tensor) -> float | None:
        """The kept samples into the generator's pool, and its steps; mean loss."""
        texts = [samples.texts[i] for i in torch.where(kept)[0]] if samples.texts else []
        shares = None if found.posterior is None else found.posterior[kept]
        for at, probable in found.revised.items():
            tuner.revise(at, probable)
        place = torch.where(kept)[0]
        tuner.add(samples.images[kept.numpy()], found.labels[kept], texts, found.fused, shares, place, t)
        return tuner.tune(t) if kept.any() else None

    def draw(self, t: int, federation: Federation) -> SharedSamples:
        """The round's synthetic samples, or the public set."""
        s, context = self.settings, self.context
        if s.public_pairs:
            return public_samples(context, s.public_pairs)
        drawn = self.classes(t)
        assert self.tuner is not None  # synthetic samples
        images = self.tuner.draw([context.prompts[c] for c in drawn], context.draws(t, "synthesis"))
        read = ClientTask.TEXT_CLASSIFICATION in context.modalities or s.train_text != "prompt"
        return SharedSamples(images, tuple(context.captioner.caption(images)) if read else (), drawn)

    def classes(self, t: int) -> NDArray[np.int64]:
        """The class of each sample that round t draws, (S,)."""
        n, there, rng = self.settings.samples, self.context.classes_at(t), self.context.rng(t, "classes")
        if self.settings.classes == "uniform":
            return there[rng.integers(0, len(there), n)]
        # as FedMMKT draws them, so that all methods see the same samples in the same round
        whole = np.concatenate([rng.permutation(there) for _ in range(-(-n // len(there)))])[:n]
        return rng.permutation(whole)

    def ask(
        self,
        federation: Federation,
        samples: SharedSamples,
        wanted: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> ClientOutputs:
        """The clients' answers about `samples`, or about those `wanted` of each modality."""
        ordered = self.question(federation, samples, wanted or {})
        context = self.context
        return ClientOutputs(ordered, len(samples), len(context.class_names), context.width)

    def messages(
        self, federation: Federation, samples: SharedSamples, wanted: Mapping[str, NDArray[np.bool_]]
    ) -> dict[str, Any]:
        """client -> what it is asked."""

        def message(client: str) -> Any:
            m = federation.modality(client)
            if client in self.holders:
                return SharedAgain(len(samples), wanted.get(m))
            if m == ClientTask.IMAGE_CLASSIFICATION:
                return SharedPictures(samples.images, wanted.get(m))
            return SharedTexts(sendable(samples.texts), wanted.get(m))

        return {k: message(k) for k in federation.clients}

    def question(
        self, federation: Federation, samples: SharedSamples, wanted: Mapping[str, NDArray[np.bool_]]
    ) -> list[Reply]:
        """The replies, in the order of the clients' names: neither order of arrival nor of listing may matter."""

        messages = self.messages(federation, samples, wanted)
        asked = federation.ask("infer", messages, timeout=self.context.timeout, quorum=self.context.quorum)
        out = self.suspects.left_out
        replies = sorted((r for r in asked if r.ok and r.client not in out), key=lambda r: r.client)
        if self.settings.public_pairs:
            self.holders = (self.holders - set(messages)) | {r.client for r in replies}
        return replies

    def says(self, outputs: ClientOutputs) -> Tensor:
        """What say each client has in each sample (K, S): the same, or that of a peer's neighbours."""
        each = [1.0 if self.say is None else self.say[k] for k in answered(outputs)]
        return torch.tensor(each)[:, None].expand(outputs.present.shape) * outputs.present

    def combined(self, values: Tensor, weights: Tensor) -> Tensor:
        """Clients' rows (K, S, D) put together with weights (K, S), as the setting `aggregate` says: (S, D)."""
        return combined(self.settings, values, weights)

    def sound(
        self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs
    ) -> tuple[Aggregate, ClientOutputs]:
        """`aggregate`, whose targets can be sent, and the answers that it is of.

        Answers that make that impossible are left out; then norms are bounded.
        """

        def combine(rows: Mapping[str, int]) -> tuple[Aggregate, ClientOutputs]:
            some = outputs if len(rows) == len(outputs.replies) else outputs.only(sorted(rows.values()))
            found = self.aggregate(t, federation, samples, some.within(self.settings.norm_bound))
            for message in {id(m): m for m in found.targets.values()}.values():
                federation.contract.check(self.learn_verb, message, "down")
            return found, some

        rows = {reply.client: row for row, reply in enumerate(outputs.replies)}
        parts = [part for part in vars(self).values() if isinstance(part, Stateful)]  # such as who has agreed before
        return without_faults(federation, "infer", rows, repeatable(combine, self, *parts))

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """The method's own: what the answers say, and what each client is to learn."""
        raise NotImplementedError

    def paper_bytes(self, federation: Federation, samples: int) -> tuple[int, int] | None:
        """The papers' bytes of a round, up and down."""
        name, public = self.formula_name(self.settings), samples if self.tuner is None else None
        return paper_bytes(formula(name, samples, public), federation, self.context) if name else None


def needs(settings: SharedSettings) -> frozenset[str]:
    """The tools: a generator and its captioner, or the public set."""
    return frozenset({"public"}) if settings.shared == "public" else settings.tools("generator", "captioner")


def majority(outputs: ClientOutputs, classes: int, drawn: NDArray[np.int64]) -> Tensor:
    """The label that most clients give, each with the same say; ties go to the drawn one. (S,), -1 without a vote."""
    from fedloom.functional.voting import label_vote

    if not len(outputs.labels):
        return torch.full((len(drawn),), -1)
    equal = torch.ones(outputs.labels.shape)
    return label_vote(outputs.labels, equal, classes, torch.from_numpy(drawn)).labels


def labels_of(logits: Tensor) -> NDArray[np.int32]:
    """argmax (S,) of logits, -1 where they are not finite."""
    absent = ~torch.isfinite(logits).all(-1)
    return logits.argmax(1).masked_fill(absent, -1).to(torch.int32).numpy()


def answered(outputs: ClientOutputs) -> Sequence[str]:
    """The clients whose answers count."""
    return [r.client for r in outputs.replies]
