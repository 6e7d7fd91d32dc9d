"""What of the clients' private data may be learned from what they send: differential privacy. Light: no torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from fedloom.config.base import Frozen


class AnswerPrivacySettings(Frozen):
    """Noise on what a client answers about shared samples, before it leaves.

    Protects what a client says of one shared sample, over all answers of the run; no training sample by itself.
    """

    epsilon: float = Field(gt=0, description="budget of all answers of the run; where labels and rows leave, half each")
    delta: float = Field(1e-5, gt=0, lt=1, description="of the Gaussian noise on representations and logits")
    clip: float = Field(1.0, gt=0, description="largest L2 norm of a row of representations or logits that leaves")
    prior: tuple[float, ...] | None = Field(
        None, description="what is publicly known of the labels: C shares, one a class in its order; null: all alike"
    )

    @field_validator("prior")
    @classmethod
    def _shares(cls, prior: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if prior is not None and (any(p < 0 for p in prior) or abs(sum(prior) - 1) > 1e-3):
            raise ValueError(f"shares sum to {sum(prior):.4g}, allowed: shares of at least 0 that sum to 1")
        return prior


class PrivacySettings(Frozen):
    """How clients are private. Adding or taking away one private sample changes little of what a client sends."""

    epsilon: float | None = Field(
        None, gt=0, description="budget of each client's private steps, warm start included; null: they are not private"
    )
    delta: float | None = Field(None, gt=0, lt=1, description="null: the power of ten below 1 / n^1.1 of n samples")
    clip: float = Field(1.0, gt=0, description="largest L2 norm of one sample's gradient in a private step")
    answers: AnswerPrivacySettings | None = Field(None, description="noise on what clients answer; null: none")

    @model_validator(mode="after")
    def _something(self) -> PrivacySettings:
        if self.epsilon is None and self.answers is None:
            raise ValueError("it says nothing: set epsilon, answers, or both")
        return self


class PrivacyPlan(PrivacySettings):
    """The same with what the run plans, from which the noise follows.

    A silo is sent it with the server's offer.
    """

    steps: int = Field(ge=0, description="private steps of the run, warm start included")
    answered: int = Field(0, ge=0, description="answers of the run")
    labels: int = Field(0, ge=0, description="labels that an answer gives for a sample")
    rows: int = Field(0, ge=0, description="rows of representations or logits that an answer gives for a sample")


def plan_of(settings: PrivacySettings, **counts: Any) -> PrivacyPlan:
    """The settings with the run's counts."""
    return PrivacyPlan(**settings.model_dump(), **counts)
