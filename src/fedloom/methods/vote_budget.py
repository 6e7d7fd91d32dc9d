"""What a run's votes by noisy counts have cost, what they may, and their hard stop: see `privacy.pate`.

How many samples have a label, and what later votes are, follows from earlier outcomes. Costs that hold for any votes
may be added up along the run all the same, as long as it stops within the budget: a Renyi filter (Feldman and Zrnic
2021, arXiv 2008.11193); all of them are linear in the order, so one budget holds at every order.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedloom.methods.shared_messages import RoundSettings
from fedloom.methods.state import Kept, Stateful
from fedloom.privacy.accounting import affordable, epsilon_of, orders, spent
from fedloom.privacy.pate import any_rdp, label_rdp, quorum_rdp

History = list[tuple[float, float, int]]


class VoteSettings(RoundSettings):
    """How counts are made noisy, and how much may be learned from them."""

    epsilon: float = Field(8.0, gt=0, description="budget of all votes of the run, of each client's whole data")
    delta: float = Field(1e-5, gt=0, lt=1, description="of the same; keep it well below one over the clients")
    accounting: Literal["data-independent", "data-dependent"] = Field(
        "data-independent",
        description="what the budget is held against: a bound for any votes, or the cost of the votes that were given, "
        "which is lower where clients agree, and as secret as they are",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="T, share of all clients that the largest count must reach")
    sigma_1: float | None = Field(
        None, gt=0, description="noise of the quorum check, in votes; null: 0.3 of the clients. Not with `secure`"
    )
    sigma_2: float | None = Field(None, gt=0, description="noise of each count, in votes; null: 0.16 of the clients")
    secure: bool = Field(False, description="secure sums: the server sees noisy counts alone, and no client's vote")


class VoteBudget(Stateful):
    """Counts what was asked and answered, and allows no sample whose cost may pass the budget.

    With secure sums all counts of a sample are told with noise sigma_2, and the quorum is read off them: a Gaussian
    mechanism of L2 sensitivity sqrt(2). Without, a sample costs its quorum check, and its label where there is one.
    """

    asked: Kept[int]
    answered: Kept[int]
    refused: Kept[int]  # samples not asked about, or not told of, as the budget was spent
    by_votes: Kept[NDArray[np.float64]]  # Renyi divergences (A,) of the votes that were given

    def __init__(self, settings: VoteSettings) -> None:
        assert settings.sigma_2 is not None  # resolved
        self.settings, self.sigma_1, self.sigma_2 = settings, settings.sigma_1 or 0.0, settings.sigma_2
        self.asked = self.answered = self.refused = 0
        self.dependent = settings.accounting == "data-dependent"
        self.by_votes = np.zeros(len(orders()) if self.dependent else 0)

    def history(self, more: int = 0) -> History:
        """What was done, and `more` samples asked about and answered; by `accounting`'s terms."""
        label = (count_multiplier(self.sigma_2), 1.0, (self.asked if self.settings.secure else self.answered) + more)
        return [label] if self.settings.secure else [(self.sigma_1, 1.0, self.asked + more), label]

    def room(self) -> bool:
        """Whether one more sample may be asked about, and answered, whatever the votes."""
        s = self.settings
        if not self.dependent:
            return spent(self.history(1), s.delta) <= s.epsilon
        worst = any_rdp(math.sqrt(2) * self.sigma_1, orders()) + any_rdp(self.sigma_2, orders())
        return epsilon_of(self.by_votes + worst, s.delta) <= s.epsilon

    def reserve(self, samples: int) -> int:
        """How many of `samples` may be asked about by secure sums; they count from now on, whatever becomes of them."""
        s = self.settings
        allowed = affordable(self.history(), count_multiplier(self.sigma_2), 1.0, samples, s.epsilon, s.delta)
        self.asked += allowed
        self.refused += samples - allowed
        return allowed

    def charged(self, counts: NDArray[np.float64], labels: NDArray[np.int64], votes: float) -> NDArray[np.int64]:
        """Labels (S,) of counts (S, C), with -1 from where the budget is spent; votes: T, of a quorum."""
        told = np.full_like(labels, -1)
        for i, label in enumerate(labels):
            if not self.room():
                self.refused += len(labels) - i
                break
            told[i] = label
            self.asked += 1
            self.answered += int(label >= 0)
            if self.dependent:
                self.by_votes = self.by_votes + quorum_rdp(counts[i].max(), votes, self.sigma_1, orders())
                if label >= 0:
                    self.by_votes = self.by_votes + label_rdp(counts[i], self.sigma_2, orders())
        return told

    def told(self) -> dict[str, float]:
        """What `metrics.jsonl` says of it."""
        s, bound = self.settings, spent(self.history(), self.settings.delta)
        done = {"asked": self.asked, "answered": self.answered, "refused": self.refused}
        if not self.dependent:
            return {"epsilon": bound, "budget": s.epsilon, "delta": s.delta, **done}
        epsilon = epsilon_of(self.by_votes, s.delta) if self.asked else 0.0
        return {"epsilon": epsilon, "budget": s.epsilon, "delta": s.delta, **done, "epsilon_independent": bound}


def count_multiplier(sigma: float) -> float:
    """Noise over L2 sensitivity, of one client's vote on a sample: it moves from one count to another."""
    return sigma / math.sqrt(2)
