"""What passes between a federation, its engine and the round loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fedloom.federation.host import Failure, Outcome


@dataclass(frozen=True)
class Reply:
    """One client's answer, or why there is none. `seconds`: at work in the client, or waited in vain."""

    client: str
    modality: str
    verb: str
    round: int
    message: Any = None
    error: Failure | None = None
    detail: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None


class Missing(NamedTuple):
    """A reply that failed; or, with verb "restart", a client whose process was replaced."""

    round: int
    verb: str
    client: str
    error: Failure
    detail: str


class Request(NamedTuple):
    """What an engine carries to a client."""

    id: int
    client: str
    verb: str
    round: int
    key: str
    payload: bytes


class Arrival(NamedTuple):
    """What an engine brings back for the request `id`; `arrived` on the clock of time.monotonic()."""

    id: int
    outcome: Outcome
    arrived: float
