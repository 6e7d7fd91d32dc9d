"""FedMMKT whose labels are voted by PATE's Confident-GNMax (arXiv 2510.12254 and 1802.08908): no client stands out.

    down  synthetic pictures to image clients, captions of the same pictures to text clients
    up    one vote a sample; with `secure` the sum of all clients' votes with noise, and no client's
    down  which samples have a quorum, and their labels

All that anyone but the server learns of clients is noisy: (epsilon, delta)-differential privacy of each client's whole
data, over all samples asked about. So of FedMMKT what is made of votes alone stays: no representations, logits,
entropies, losses, or classes that a client holds; clients and generator learn from labels (as -MultiRepFusion does).

Ours: clients vote in place of PATE's teachers and learn from the labels in place of its student; the budget is counted
as the run goes on, since later votes depend on earlier labels, and voting ends before it would be passed. Then clients
and generator go on with the labels that they have, which cost nothing more. With `secure` each client adds a share of
the noise: of t, more than half of the clients, sigma_2^2 / t each, so that those who are there to the end have put at
least sigma_2 on each count, and the quorum is read off the same counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from fedloom.errors import BadInput, FedloomError
from fedloom.federation.base import Federation
from fedloom.federation.messages import MOST_CLASSES, Empty, sendable
from fedloom.federation.messages import Tensor as Wire
from fedloom.functional.voting import vote_sums
from fedloom.methods.base import Info, LabelInfo, Method, ServerContext
from fedloom.methods.context import ClientContext, Inputs
from fedloom.methods.private_steps import of_shared
from fedloom.methods.replies import ClientOutputs, Clock
from fedloom.methods.secure_sums import SecureClient, secure_sums, secure_verbs
from fedloom.methods.shared_client import SharedClient
from fedloom.methods.shared_messages import SharedPictures, SharedTexts
from fedloom.methods.shared_samples import SharedSamples, SharedServer, answered, labels_of
from fedloom.methods.state import Kept
from fedloom.methods.tuning import Tuner
from fedloom.methods.vote_budget import VoteBudget, VoteSettings, count_multiplier
from fedloom.privacy.accounting import check_installed, spent
from fedloom.privacy.book import read_book, write_book
from fedloom.privacy.pate import confident_gnmax
from fedloom.privacy.secure_sum import SEALED_BYTES
from fedloom.privacy.secure_sum import check_installed as check_sums
from fedloom.tasks import ClientTask

Array = NDArray[Any]
SIGMA_1, SIGMA_2 = 0.3, 0.16  # shares of the clients; the paper has 40 of 250 teachers for the latter (table 1)
# What looks at more than counts, or needs what clients do not send.
WITHOUT: Mapping[str, Any] = {
    "aggregate": "mean",
    "norm_bound": None,
    "leave_out_after": None,
    "rollback": None,
    "diagnostics": False,
}


class PateSettings(VoteSettings):
    """Of a round on shared samples what goes by votes alone."""

    @model_validator(mode="after")
    def _votes_alone(self) -> Self:
        if unlike := [k for k, value in WITHOUT.items() if getattr(self, k) != value]:
            raise ValueError(f"{unlike[0]} = {getattr(self, unlike[0])!r} asks for more than votes: leave it out")
        if self.secure and self.accounting == "data-dependent":
            raise ValueError("accounting = 'data-dependent': with secure = true nobody knows the counts that it is of")
        if self.secure and self.sigma_1 is not None:
            raise ValueError(f"sigma_1 = {self.sigma_1}: with secure = true the quorum is read off the noisy counts")
        return self


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class PateVotes:
    """Up: the label that a client gives each sample; -1: no finite answer, no vote."""

    labels: Annotated[Array, Wire("int32", ("S",), low=-1, high=MOST_CLASSES - 1)]


@dataclass(frozen=True)
class PateMaskedPictures:
    """Down to image clients in a secure sum: the pictures, and the shares that others have sealed for this client."""

    images: Annotated[Array, Wire("uint8", ("S", "H", "W", 3))]
    names: tuple[str, ...]
    sealed: Annotated[Array, Wire("uint8", ("K", SEALED_BYTES))]


@dataclass(frozen=True)
class PateMaskedTexts:
    """Down to text clients: their captions, in the same order."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    sealed: Annotated[Array, Wire("uint8", ("K", SEALED_BYTES))]


@dataclass(frozen=True)
class SecureVotes:
    """Up: a client's votes (S, C), one or none a sample, plus its share of the noise, in fixed point under masks."""

    words: Annotated[Array, Wire("uint64", ("W",))]


@dataclass(frozen=True)
class PateTargets:
    """Down: which of the samples have a quorum, and their labels; nothing: go on with those of rounds before."""

    kept: Annotated[Array, Wire("bool", ("S",))] | None = None
    labels: Annotated[Array, Wire("int32", ("M",), low=0, high=MOST_CLASSES - 1)] | None = None


# ---------------------------------------------------------------------------------------------------- the client


class PateClient(SharedClient, SecureClient):
    """Votes on the synthetic samples, and learns those that have a label."""

    settings: PateSettings
    voted: Kept[int]  # samples that it has voted on by secure sums

    def __init__(self, context: ClientContext, settings: PateSettings) -> None:
        super().__init__(context, settings)
        self.voted = 0
        self.restored()

    def restored(self) -> None:
        """A silo's book counts what was spent, also before the client was set back."""
        if self.settings.secure and self.context.book is not None:
            self.voted = max(self.voted, sum(times for _, _, times in read_book(self._book)[0]))

    def layout(self) -> str:
        """All votes are added up together."""
        return "votes"

    def vote_masked(self, message: PateMaskedPictures | PateMaskedTexts, *, round: int) -> Any:
        """Its part of the counts."""
        return self.infer(message, round=round)

    def answer(self, message: Any, z: Tensor, logits: Tensor) -> PateVotes | SecureVotes:
        """The class with the largest logit."""
        labels = labels_of(logits)
        if not isinstance(message, PateMaskedPictures | PateMaskedTexts):
            return PateVotes(labels)
        self._spend(len(labels))
        votes = np.zeros(tuple(logits.shape))
        votes[labels >= 0, labels[labels >= 0]] = 1.0
        return SecureVotes(self.masked((votes + self.noise(votes.shape)).ravel(), message))

    def noise(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Its share: of as many clients as must be there to the end."""
        assert self.settings.sigma_2 is not None
        share = self.settings.sigma_2 / self.party.threshold**0.5
        return self.context.noise_stream("votes", self.voted).normal(0.0, share, shape)

    def _spend(self, samples: int) -> None:
        """Counts samples before it votes on them. FedloomError where they would pass the budget."""
        s = self.settings
        assert s.sigma_2 is not None
        done = [(count_multiplier(s.sigma_2), 1.0, self.voted + samples)]
        if spent(done, s.delta) > s.epsilon:
            raise FedloomError(
                f"client {self.context.name}: its budget of votes is spent, epsilon = {s.epsilon}, {self.voted} samples"
            )
        self.voted += samples
        if self.context.book is not None:
            write_book(self._book, done, 0)

    @property
    def _book(self) -> Any:
        assert self.context.book is not None
        return self.context.book.with_suffix(".votes.json")

    def learn(self, message: PateTargets, *, round: int) -> Empty:  # type: ignore[override]
        """Steps on the labelled samples, then private ones; their loss is told to nobody."""
        if message.kept is not None:
            self.keep(message, round)
        self.local_update(self.lesson(round))
        return Empty()

    def targets(self, message: PateTargets, kept: Tensor) -> dict[str, Tensor]:
        """Voted labels."""
        return {"labels": torch.from_numpy(message.labels).long()}

    def objective(self, views: Inputs, pool: Mapping[str, Tensor], i: Tensor) -> Tensor:
        """Cross-entropy to the voted label."""
        return F.cross_entropy(self.context.model(**views), pool["labels"][i])


# ---------------------------------------------------------------------------------------------------- the server


class PateServer(SharedServer):
    """Noisy counts, labels, and the generator's tuning on them."""

    settings: PateSettings
    tuner: Kept[Tuner]
    budget: Kept[VoteBudget]
    key: Kept[str]  # of the noise, where nobody may compute it; "": of the run's streams

    def __init__(self, context: ServerContext, settings: PateSettings) -> None:
        super().__init__(context, settings)
        self.budget = VoteBudget(settings)
        self.key = secrets.token_hex(16) if context.secret else ""

    def round(self, federation: Federation) -> Info:
        """Samples out, noisy counts in, labels out; then the generator."""
        t, timeout, clock = federation.round, self.context.timeout, Clock()
        samples = labels = found = None
        if self.budget.room():
            with clock("synthesis"):
                samples = self.draw(t, federation)
            with clock("inference"):
                samples, labels, shown = self._voted(federation, samples)
        else:
            self.budget.refused += self.settings.samples
        targets = dict.fromkeys(federation.clients, PateTargets())
        if samples is not None and labels is not None:
            kept = labels >= 0
            targets = dict.fromkeys(shown, PateTargets(kept, labels[kept].astype(np.int32)))
            found = LabelInfo(samples.images, samples.texts, samples.labels, labels, kept)
            texts = [samples.texts[i] for i in np.flatnonzero(kept)] if samples.texts else []
            self.tuner.add(samples.images[kept], torch.from_numpy(labels[kept]), texts, None)
        with clock("retraining"):  # clients in other processes learn meanwhile
            learning = federation.ask("learn", targets, timeout=timeout)
        with clock("generator"):
            loss = self.tuner.tune(t)
        with clock("retraining"):
            list(learning)
        losses = {"generator": loss, "clients": None}
        return Info(found, losses, clock.seconds, vote_budget=self.budget.told())

    def _voted(
        self, federation: Federation, samples: SharedSamples
    ) -> tuple[SharedSamples, NDArray[np.int64] | None, Sequence[str]]:
        """The samples that were asked about, their labels, -1 without a quorum or budget, and who has voted.

        Labels are None where nobody has.
        """
        s, classes = self.settings, len(self.context.class_names)
        votes = s.threshold * len(federation.clients)  # T
        if s.secure:
            samples = first(samples, self.budget.reserve(len(samples)))
            counts, shown = self._secure_counts(federation, samples)
            if counts is None:
                return samples, None, shown
            labels = np.where(counts.max(1) >= votes, counts.argmax(1), -1)
            self.budget.answered += int((labels >= 0).sum())
            return samples, labels, shown
        outputs = ClientOutputs(self.question(federation, samples, {}), len(samples), classes, self.context.width)
        if not outputs.replies:
            return samples, None, ()
        counts = vote_sums(outputs.labels, torch.ones(outputs.labels.shape), classes).double().numpy()
        noise = self._noise(federation.round, counts)
        labels = confident_gnmax(counts, votes, self.budget.sigma_1, self.budget.sigma_2, noise)
        return samples, self.budget.charged(counts, labels, votes), answered(outputs)

    def _secure_counts(
        self, federation: Federation, samples: SharedSamples
    ) -> tuple[NDArray[np.float64] | None, Sequence[str]]:
        """Noisy counts (S, C) as the clients' sum gives them, and who has voted; None where there is no sum."""
        texts = sendable(samples.texts)

        def order(client: str, names: tuple[str, ...], sealed: Array) -> PateMaskedPictures | PateMaskedTexts:
            if federation.modality(client) == ClientTask.IMAGE_CLASSIFICATION:
                return PateMaskedPictures(samples.images, names, sealed)
            return PateMaskedTexts(texts, names, sealed)

        who = "client that answers, so that its sum would be its votes"
        for total in secure_sums(federation, federation.clients, "vote_masked", order, self.context.timeout, who):
            if total.layout == "votes" and len(total.numbers) == len(samples) * len(self.context.class_names):
                return total.numbers.reshape(len(samples), -1), total.senders
        return None, ()

    def _noise(self, t: int, counts: NDArray[np.float64]) -> np.random.Generator:
        """The noise of a round; with a key the same for the same counts alone, of which it would tell nothing new."""
        if not self.key:
            return self.context.rng(t, "votes")
        digest = blake2b(counts.tobytes(), digest_size=16).digest()
        return np.random.default_rng([int(self.key, 16), t, int.from_bytes(digest)])


def first(samples: SharedSamples, n: int) -> SharedSamples:
    """The first n of them."""
    return SharedSamples(samples.images[:n], samples.texts[:n], samples.labels[:n])


# ---------------------------------------------------------------------------------------------------- the method


def _verbs(settings: PateSettings) -> Mapping[str, tuple[Any, Any]]:
    """With secure sums no verb brings a vote."""
    votes = {"infer": ((SharedPictures, SharedTexts), PateVotes)}
    if settings.secure:
        votes = secure_verbs("vote_masked", (PateMaskedPictures, PateMaskedTexts), SecureVotes)
    return {**votes, "learn": (PateTargets, Empty)}


def _resolve(settings: PateSettings, modalities: Sequence[str]) -> PateSettings:
    """Noise in votes; `rollback`, which other methods have on real data, asks for more than votes."""
    check_installed("fedmmkt-pate")
    if settings.secure:
        check_sums()
        if len(modalities) < 2:
            raise BadInput("settings.secure = true: one client's sum would be its votes; allowed: two clients or more")
    given = {"sigma_2": SIGMA_2 * len(modalities)}
    if not settings.secure:
        given["sigma_1"] = SIGMA_1 * len(modalities)
    missing = {k: round(v, 4) for k, v in given.items() if getattr(settings, k) is None}
    return settings.model_copy(update={**missing, "rollback": None})


METHOD = Method(
    "fedmmkt-pate",
    PateSettings,
    PateClient,
    PateServer,
    _verbs,
    lambda settings: settings.tools("generator", "captioner"),
    resolve=_resolve,
    private_steps=(PateClient, of_shared),
    needs_server="one server counts the votes and keeps the privacy budget",
)
