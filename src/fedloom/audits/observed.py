"""What a server can ask about a private sample: models that crossed, or one that it trains on what clients answered.

parameters   each reply is a model: the client's own, as it was after its private steps
mean         by secure sums no client's model is seen; the mean of its group is, in the next request
answers      on shared samples: a surrogate like the client's model is trained to answer as the client did
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedloom.audits.subject import AuditedRun
from fedloom.experiment.client_builder import features_shared
from fedloom.federation.kept import Exchange
from fedloom.methods.context import ClientContext, Inputs
from fedloom.privacy.membership import logit_confidence

SURROGATE_STEPS = 300
How = Literal["parameters", "mean", "answers"]
HOW: Mapping[How, str] = {
    "parameters": "the client's own parameters",
    "mean": "the mean parameters of its group (secure sums)",
    "answers": "a surrogate, trained on the client's answers about shared samples",
}


@dataclass(frozen=True)
class Answers:
    """A client's answers about N shared samples: pictures uint8 (N, H, W, 3) or N texts, with what it said of each.

    Labels (N,), logits (N, C) and representations (N, D): None where the method has none.
    """

    shown: NDArray[np.uint8] | tuple[str, ...]
    labels: NDArray[np.int64] | None
    logits: NDArray[np.float32] | None
    representations: NDArray[np.float32] | None

    def of(self, rows: NDArray[Any]) -> Answers:
        """Those in `rows`, numbers or bool (N,)."""
        some = np.arange(len(self.shown))[rows]
        shown = self.shown[some] if isinstance(self.shown, np.ndarray) else tuple(self.shown[i] for i in some)
        parts = (None if part is None else part[some] for part in (self.labels, self.logits, self.representations))
        return Answers(shown, *parts)


@dataclass(frozen=True)
class Observed:
    """Models that the server has of a client, each as samples -> logits (N, C)."""

    how: How
    models: Sequence[Callable[[Any], Tensor]]

    def phi(self, samples: Any) -> NDArray[np.float64]:
        """The logit of the probability of each sample's label (N,), mean over the models."""
        views = [logit_confidence(model(samples).double().numpy(), samples.labels) for model in self.models]
        return np.asarray(np.mean(views, axis=0), dtype=np.float64)

    def losses(self, samples: Any) -> NDArray[np.float64]:
        """Cross-entropy of each sample (N,), nats, mean over the models."""
        labels = torch.from_numpy(samples.labels)
        views = [F.cross_entropy(model(samples), labels, reduction="none").double().numpy() for model in self.models]
        return np.asarray(np.mean(views, axis=0), dtype=np.float64)


def observed(run: AuditedRun, client: str, exchanges: Iterable[Exchange], seed: int) -> Observed | None:
    """What the server has of a client; None where nothing that crossed gives a private sample a score."""
    exchanges = list(exchanges)
    sent = [e.reply.parameters for e in exchanges if getattr(e.reply, "parameters", None)]
    if sent:
        return Observed("parameters", _models(run, client, sent, seed))
    means = [e.request.parameters for e in exchanges if e.verb == "fit_masked" and e.request.parameters]
    if means:
        return Observed("mean", _models(run, client, means, seed))
    answers = shared_answers(exchanges)
    if answers is None or answers.labels is None:
        return None
    return Observed("answers", [_surrogate(run, client, answers, seed)])


def attacker_context(run: AuditedRun, client: str, seed: int) -> ClientContext:
    """A model like the client's on the server, without data."""
    c = run.config.clients
    context = run.builder(client, seed).context(**c.training(client), **c.arithmetic(), shared=features_shared)
    context.attach(lambda model: run.method.wrap_model(model, run.settings))
    return context


def shared_answers(exchanges: Iterable[Exchange]) -> Answers | None:
    """All that a client answered about shared samples, of all rounds; None where it answered nothing."""
    shown: Any = None
    found: list[Answers] = []
    for e in exchanges:
        new = getattr(e.request, "images", getattr(e.request, "texts", None))
        shown = shown if new is None else new
        if shown is None or e.reply is None:
            continue
        logits, labels = getattr(e.reply, "logits", None), getattr(e.reply, "labels", None)
        representations = getattr(e.reply, "representations", None)
        if logits is None and labels is None and representations is None:
            continue
        every = np.arange(len(shown))
        wanted = getattr(e.request, "wanted", None)
        asked = Answers(shown, None, None, None).of(every if wanted is None else wanted)
        if logits is not None:
            labels = np.where(np.isfinite(logits).all(1), np.nan_to_num(logits).argmax(1), -1)
        own = None if labels is None else labels.astype(np.int64)
        answer = Answers(asked.shown, own, logits, representations)
        found.append(answer if own is None else answer.of(own >= 0))
    return _together(found) if found else None


def _together(parts: Sequence[Answers]) -> Answers:
    """The answers of several rounds as one."""

    def joined(name: str) -> Any:
        each = [getattr(part, name) for part in parts]
        return None if any(part is None for part in each) else np.concatenate(each)

    pictures = isinstance(parts[0].shown, np.ndarray)
    shown = joined("shown") if pictures else tuple(text for part in parts for text in part.shown)
    return Answers(shown, joined("labels"), joined("logits"), joined("representations"))


def _models(
    run: AuditedRun, client: str, sent: Sequence[Mapping[str, NDArray[Any]]], seed: int
) -> list[Callable[[Any], Tensor]]:
    context = attacker_context(run, client, seed)

    def model(parameters: Mapping[str, NDArray[Any]]) -> Callable[[Any], Tensor]:
        def logits(samples: Any) -> Tensor:
            given = {k: torch.from_numpy(np.array(v)) for k, v in parameters.items()}
            context.model.load_state_dict(given, strict=False)
            return context.look(context.inputs(samples))[1]

        return logits

    return [model(parameters) for parameters in sent]


def _surrogate(run: AuditedRun, client: str, answers: Answers, seed: int) -> Callable[[Any], Tensor]:
    """A model trained to give the client's labels or scores, and its representations, on the shared samples."""
    context = attacker_context(run, client, seed)
    inputs = context.inputs(answers.shown)
    assert answers.labels is not None
    labels = torch.from_numpy(answers.labels)
    scores = None if answers.logits is None else torch.from_numpy(answers.logits).softmax(1)
    z_client = None if answers.representations is None else torch.from_numpy(answers.representations)

    def objective(views: Inputs, i: Tensor) -> Tensor:
        model: Any = context.model
        z = model.encode(**views)
        loss = F.cross_entropy(model.classify(z), labels[i] if scores is None else scores[i])
        return loss if z_client is None else loss + F.mse_loss(z, z_client[i])

    if len(labels):
        context.fit(inputs, SURROGATE_STEPS, objective, "surrogate")
    return lambda samples: context.look(context.inputs(samples))[1]
