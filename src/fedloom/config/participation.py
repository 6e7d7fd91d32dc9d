"""Who takes part in which round of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedloom.config.base import Frozen
from fedloom.tasks import Modality

Round = Annotated[int, Field(ge=1, lt=2**31)]
Presence = Literal["present", "away", "late", "gone"]
TraceRow = tuple[str, Round, Presence]


class ParticipationSettings(Frozen):
    """Clients that come and go; by default all are there."""

    share: float = Field(1.0, gt=0, le=1, description="of the clients that are there, those drawn for a round")
    away: float = Field(0.0, ge=0, lt=1, description="probability that a client is away in a round")
    stay: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="probability that one who is away is so in the next round, too; null: `away`, as of any other",
    )
    late: float = Field(0.0, ge=0, lt=1, description="probability that a client's answers of a round come too late")
    join: dict[str, Round] = Field(default_factory=dict, description="client: the first round it is there")
    leave: dict[str, Round] = Field(default_factory=dict, description="client: the round from which it is gone")
    trace: str | tuple[TraceRow, ...] | None = Field(
        None,
        description="CSV or JSONL file of client, round and state (present, away, late or gone), or its rows; what it "
        "says holds whatever is drawn",
    )
    classes: dict[str, Round] = Field(
        default_factory=dict,
        exclude_if=lambda classes: not classes,
        description="class: the first round in which clients have samples of it",
    )
    kinds: dict[str, dict[Modality, Round]] = Field(
        default_factory=dict,
        exclude_if=lambda kinds: not kinds,
        description="multimodal client: one of its two kinds of data, and the first round in which it has that",
    )

    @model_validator(mode="after")
    def _chain(self) -> ParticipationSettings:
        if self.stay is not None and self.away and self.away * (2 - self.stay) > 1:
            least = 2 - 1 / self.away
            raise ValueError(f"stay = {self.stay} with away = {self.away}: allowed: {least:.4g} or more")
        return self

    @model_validator(mode="after")
    def _order(self) -> ParticipationSettings:
        for client, end in self.leave.items():
            if end <= (start := self.join.get(client, 1)):
                raise ValueError(
                    f"leave.{client} = {end}: it is there from round {start} on; allowed: {start + 1} or later"
                )
        return self

    @property
    def trace_rows(self) -> tuple[TraceRow, ...]:
        """The trace, once its file is read."""
        return () if self.trace is None or isinstance(self.trace, str) else self.trace
