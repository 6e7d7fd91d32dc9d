"""What a silo allows a server to have of it, whatever the server asks: its operator's word, safe as it stands."""

from __future__ import annotations

from pydantic import Field, field_validator

from fedloom.config.base import Frozen


class RoundBounds(Frozen):
    """The most that a server gets in one round; null: no bound. A scored round is a query more, as is each message."""

    steps: int | None = Field(100_000, ge=0, description="training steps")
    seconds: float | None = Field(86_400.0, gt=0, description="seconds at work")
    bytes_up: int | None = Field(4 * 2**30, ge=0, description="bytes of all replies")
    samples: int | None = Field(1_000_000, ge=0, description="shared samples that are answered")
    queries: int | None = Field(1_000, ge=0, description="messages that are answered")


class RunBounds(RoundBounds):
    """The most that a server gets in one run, however often the silo is restarted; null: no bound."""

    steps: int | None = Field(10_000_000, ge=0, description="training steps, the warm start's among them")
    seconds: float | None = Field(30 * 86_400.0, gt=0, description="seconds at work")
    bytes_up: int | None = Field(2**40, ge=0, description="bytes of all replies")
    samples: int | None = Field(100_000_000, ge=0, description="shared samples that are answered")
    queries: int | None = Field(100_000, ge=0, description="messages that are answered")


class SiloBounds(Frozen):
    """What a server may have of a silo. What breaks a bound is refused in one line, at both ends, and undone."""

    methods: tuple[str, ...] | None = Field(
        None,
        description="methods that the silo takes part in, by name; needed unless the server is this machine, where "
        "null is any",
    )
    fields: tuple[str, ...] | None = Field(
        None,
        description="fields that may leave, as `labels` or `FedMMKTOutputs.labels`; null: all that the method declares",
    )
    round: RoundBounds = RoundBounds()
    run: RunBounds = RunBounds()
    epsilon: float | None = Field(
        None,
        gt=0,
        description="of private steps (clients.privacy), over all runs of all time, added up; null: any run, also one "
        "that is not private",
    )
    batch: int = Field(2, ge=1, description="least samples in a private batch")
    public_bytes: int | None = Field(2**30, ge=0, description="largest message that the server may send; null: any")
    parameters: int | None = Field(
        400_000_000, ge=0, description="largest model that the server may send or ask for, in weights; null: any"
    )
    delete_exports: bool = Field(
        False, description="whether exported models of old runs are deleted when a server's run is joined or ended"
    )

    @field_validator("methods", "fields")
    @classmethod
    def _some(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not all(value):
            raise ValueError("an empty name; allowed: names, or null")
        return value
