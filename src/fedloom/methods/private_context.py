"""A client's context where it is private: no use of private samples but by private steps, no answer without noise.

Private steps (DP-SGD, arXiv 1607.00133) are those of `fit` on the private samples, and the private term beside steps on
shared ones (`beside`). Everything a client sends is made of the model that they train, and so is as private. Losses on
private samples stay at the client, and all clients weigh the same in an average.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedloom.config.privacy import AnswerPrivacySettings, PrivacyPlan
from fedloom.errors import BadInput, FedloomError
from fedloom.methods.context import ClientContext, Inputs, rows
from fedloom.methods.state import Kept
from fedloom.models.fit import fit
from fedloom.models.per_example import add_private_gradient, check_private, per_example_gradients
from fedloom.privacy.accounting import TERMS, affordable, noise_multiplier, spent, usual_delta
from fedloom.privacy.book import read_book, write_book
from fedloom.privacy.mechanisms import certainty, noisy_rows, randomised_labels
from fedloom.privacy.randomness import secret_torch_stream
from fedloom.seeding import global_torch_stream, torch_stream

log = logging.getLogger(__name__)
ROWS, LABELS, ENTROPIES = ("representations", "augmented", "logits"), "labels", "entropies"
ANSWERED = frozenset({*ROWS, LABELS, ENTROPIES})


class PrivateClientContext(ClientContext):
    """See the module.

    Args:
        privacy: what is allowed, and what the run plans.
        common: as of `ClientContext`. With a `book` noise is secret; without, on one machine, it is of named streams
            and can be repeated.

    Raises:
        BadInput: the model has layers that mix samples, or gives no gradients of single ones; or see `accounting`.
    """

    history: Kept[list[tuple[float, float, int]]]  # private steps: noise multiplier, sampling rate, how many
    answers: Kept[int]  # given so far
    refused: Kept[int]  # private steps that were not taken, as the budget was spent

    def __init__(self, *, privacy: PrivacyPlan, **common: Any) -> None:
        super().__init__(**common)
        self.privacy = privacy
        self.history, self.answers, self.refused = [], 0, 0
        self._pending: Callable[[Inputs, Tensor], Tensor] | None = None
        self._left: int | None = None  # private terms that this training on shared samples may still take
        n = len(self.private_labels)
        self.sampling = min(1.0, self.batch / max(n, 1))
        self.delta = privacy.delta or usual_delta(n)
        self.noise = 0.0
        if privacy.epsilon is not None and n:
            self.noise = noise_multiplier(privacy.epsilon, self.delta, self.sampling, privacy.steps)
            blank = {k: torch.zeros_like(v[:1]) for k, v in self.private.items()}
            if "attention_mask" in blank:
                blank["attention_mask"] += 1
            check_private(self.model, self.ready(blank), self.task_loss)
        self.restored()

    def restored(self) -> None:
        """A silo's book counts what was spent, also before the client was set back."""
        if self.book is not None:
            steps, answers = read_book(self.book)
            if _times(steps) > _times(self.history):
                self.history = steps
            self.answers = max(self.answers, answers)

    # ---------------------------------------------------------------------------------------------- private steps

    @property
    def trains_privately(self) -> bool:
        """Whether private samples are used by private steps only."""
        return self.privacy.epsilon is not None

    def fit(
        self,
        inputs: Inputs,
        steps: int,
        objective: Callable[[Inputs, Tensor], Tensor],
        *names: object,
        adjust: Callable[[], None] | None = None,
    ) -> float | None:
        """As of any context; on the private samples by private steps, whose loss is told to nobody (None)."""
        if not self.trains_privately:
            return super().fit(inputs, steps, objective, *names, adjust=adjust)
        if inputs is self.private:
            if adjust is not None:
                raise FedloomError(f"client {self.name}: gradients of private steps cannot be changed")
            self._fit_private(self._reserved(steps), objective, *names)
            return None

        def with_private() -> None:
            if adjust is not None:
                adjust()
            if self._pending is not None:
                if self._left is None:
                    self._left = self._reserved(steps)
                if self._left:
                    self._add(self._pending, self._left)
                    self._left -= 1
            self._pending = None

        self._left, self._pending = None, None
        return super().fit(inputs, steps, objective, *names, adjust=with_private)

    def beside(self, objective: Callable[[Inputs, Tensor], Tensor]) -> bool:
        """Takes note that the step in hand has a private term; its gradient is added when that of the rest is known."""
        if self.trains_privately:
            self._pending = objective
        return self.trains_privately

    def _fit_private(self, steps: int, objective: Callable[[Inputs, Tensor], Tensor], *names: object) -> None:
        """Private steps, no more than are reserved."""
        left = iter(range(steps, 0, -1))
        self.model.train()
        what = f"client {self.name}, {' '.join(map(str, names))}"

        def nothing(_: int) -> Tensor:  # the gradient comes from `adjust` alone
            return torch.zeros((), requires_grad=True)

        fit(
            self.optimizer,
            range(steps),
            nothing,
            clip=None,
            name=what,
            adjust=lambda: self._add(objective, next(left)),
        )

    def _reserved(self, steps: int) -> int:
        """How many of `steps` private steps the budget allows; they count from now on, whatever becomes of them."""
        if not steps or not len(self.private_labels):
            return 0
        assert self.privacy.epsilon is not None
        sigma, rate = self.noise, self.sampling
        allowed = 0
        if sigma:
            allowed = affordable(self.history, sigma, rate, steps, self.privacy.epsilon, self.delta)
        if allowed < steps:
            if not self.refused:
                log.warning("client %s: its privacy budget is spent: no more private steps", self.name)
            self.refused += steps - allowed
        if allowed:
            self.history = _added(self.history, (sigma, rate, allowed))
            self._write()
        return allowed

    def _add(self, objective: Callable[[Inputs, Tensor], Tensor], left: int) -> None:
        """Add the gradient of a private step; left: of those reserved, this one included."""
        number = _times(self.history) - left  # no two steps of the run have the same
        with self._noise("private step", number):
            from opacus.utils.uniform_sampler import UniformWithReplacementSampler

            n = len(self.private_labels)
            (drawn,) = UniformWithReplacementSampler(num_samples=n, sample_rate=self.sampling, steps=1)
            index = torch.tensor(drawn, dtype=torch.int64)
            draws = torch_stream(self.seed, self.name, "private step", number, "views")
            add_private_gradient(
                self.model,
                self.optimizer,
                self._gradients(objective, index, draws),
                clip=self.privacy.clip,
                noise=self.noise,
                batch=self.sampling * n,
            )

    def _gradients(
        self, objective: Callable[[Inputs, Tensor], Tensor], index: Tensor, draws: torch.Generator
    ) -> Iterator[dict[str, Tensor]]:
        """Of the samples `index`, as many at a time as a batch's part has; of none where there are none."""
        if not len(index):
            named = self.model.named_parameters()
            yield {k: p.new_zeros((0, *p.shape)) for k, p in named if p.requires_grad}
            return
        for part in torch.split(index, max(1, self.batch // self.accumulate)):
            views = self.views(rows(self.private, part), draws)
            yield per_example_gradients(self.model, objective, views, part)

    def _noise(self, *names: object) -> AbstractContextManager[None]:
        """torch's global stream for noise: secret at a silo, else named."""
        if self.book is not None:
            return secret_torch_stream()
        return global_torch_stream(self.seed, self.name, *names)

    # --------------------------------------------------------------------------------------------------- what leaves

    def weight(self) -> int:
        """In an average all clients weigh the same: how many samples one has is private."""
        return min(super().weight(), 1) if self.trains_privately else super().weight()

    def told(self, loss: float | None) -> float:
        """0 where answers have noise: the loss on shared samples would say what the noise hides."""
        return 0.0 if self.privacy.answers is not None else super().told(loss)

    def release(self, answer: Any, classes: int) -> Any:
        """The answer with noise. FedloomError where the budget is spent, or it says more than can be protected."""
        s = self.privacy.answers
        if s is None:
            return answer
        given = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer)}
        given = {k: v for k, v in given.items() if v is not None}
        if more := given.keys() - ANSWERED:
            raise FedloomError(f"clients.privacy.answers: there is no noise for {', '.join(sorted(more))}")
        if self.answers >= self.privacy.answered:
            raise FedloomError(
                f"client {self.name}: its budget of answers is spent, epsilon = {s.epsilon}, {self.answers} answers"
            )
        self.answers += 1
        self._write()
        prior, each, sigma = self._answering(s, classes)
        rng = self.noise_stream("answers", self.answers)
        noisy: dict[str, Any] = {k: noisy_rows(given[k], s.clip, sigma, rng) for k in ROWS if k in given}
        if LABELS in given:
            noisy[LABELS] = randomised_labels(given[LABELS], prior, each, rng).astype(given[LABELS].dtype)
        if ENTROPIES in given:  # a function of what is hidden: in its place what is publicly known
            noisy[ENTROPIES] = np.full_like(given[ENTROPIES], certainty(prior, each))
        return dataclasses.replace(answer, **noisy)

    def _answering(self, s: AnswerPrivacySettings, classes: int) -> tuple[Any, float, float]:
        """The prior of labels, epsilon of one label, and the noise multiplier of rows."""
        plan = self.privacy
        prior = np.full(classes, 1 / classes) if s.prior is None else np.array(s.prior)
        if len(prior) != classes:
            raise BadInput(f"clients.privacy.answers.prior has {len(prior)} shares, allowed: {classes}, one a class")
        share = s.epsilon / 2 if plan.labels and plan.rows else s.epsilon
        each = share / max(plan.answered * plan.labels, 1)
        return prior, each, noise_multiplier(share, s.delta, 1.0, plan.answered * plan.rows)

    def spent_on_answers(self) -> float:
        """Epsilon of the answers so far: labels by adding up, rows by the accountant."""
        s, plan = self.privacy.answers, self.privacy
        assert s is not None
        _, each, sigma = self._answering(s, len(s.prior or (1,)))
        rows_spent = spent([(sigma, 1.0, self.answers * plan.rows)], s.delta) if plan.rows else 0.0
        return self.answers * plan.labels * each + rows_spent

    def score(self, z: Tensor) -> dict[str, Any]:
        """With what is spent, as `privacy.accounting.TERMS` names it."""
        found = dict.fromkeys(TERMS, np.nan)
        if self.privacy.epsilon is not None:
            found |= {"epsilon": spent(self.history, self.delta), "delta": self.delta, "budget": self.privacy.epsilon}
            found |= {"steps": _times(self.history), "refused": self.refused}
        if self.privacy.answers is not None:
            found |= {"answers": self.answers, "answers_epsilon": self.spent_on_answers()}
            found |= {"answers_delta": self.privacy.answers.delta}
        return super().score(z) | {"privacy": np.array([found[k] for k in TERMS], dtype=np.float64)}

    def _write(self) -> None:
        """Into the silo's book, before what it counts is done."""
        if self.book is not None:
            write_book(self.book, self.history, self.answers)


def _times(history: list[tuple[float, float, int]]) -> int:
    return sum(times for _, _, times in history)


def _added(history: list[tuple[float, float, int]], more: tuple[float, float, int]) -> list[tuple[float, float, int]]:
    """With more steps; of the same noise and rate in one entry."""
    if history and tuple(history[-1][:2]) == more[:2]:
        return [*history[:-1], (*more[:2], history[-1][2] + more[2])]
    return [*history, more]
