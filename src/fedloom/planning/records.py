"""What a plan says, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelLine:
    """A model of the run. count: how many there are; parameters, trained: of one; here: None: it needs no weights."""

    role: str
    kind: str
    count: int
    parameters: int
    trained: int
    device: str
    source: str
    here: bool | None


@dataclass(frozen=True)
class DeviceLine:
    """Bytes on a device. weights, gradients and moments are counted, activations are an estimate."""

    device: str
    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.activations


@dataclass(frozen=True)
class PhaseLine:
    """A part of the work. times: how often it is done; flop: of one time; seconds: of all, an estimate or None."""

    phase: str
    device: str
    times: int
    flop: float
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What a run will take, known before it begins.

    formula: whose formula gives the bytes of a round, None where no paper gives one.
    checkpoint: bytes on disk of a round's state. checkpoint_every, checkpoint_keep: rounds between two, how many stay.
    rates: device -> FLOP/s that the times are made of, and where that figure comes from.
    """

    method: str
    data: str
    rounds: int
    clients: int
    models: tuple[ModelLine, ...]
    devices: tuple[DeviceLine, ...]
    phases: tuple[PhaseLine, ...]
    formula: str | None
    bytes_up: int | None
    bytes_down: int | None
    checkpoint: int
    checkpoint_every: int
    checkpoint_keep: int
    rates: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    share: float = 0.3
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        from fedloom.planning.glance import plan_repr

        return plan_repr(self)

    def __str__(self) -> str:
        from fedloom.planning.glance import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from fedloom.planning.glance import plan_html

        return plan_html(self)

    @property
    def seconds(self) -> float | None:
        """Of the whole run; None where a device's rate is not known."""
        known = [p.seconds for p in self.phases if p.seconds is not None]
        return sum(known) if len(known) == len(self.phases) else None

    @property
    def missing(self) -> tuple[str, ...]:
        """The weights that are not here."""
        return tuple(dict.fromkeys(m.source for m in self.models if m.here is False))

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        tree = asdict(self)
        for line, device in zip(tree["devices"], self.devices):
            line["total"] = device.total
        tree["rates"] = {k: {"flop_per_second": rate, "source": said} for k, (rate, said) in self.rates.items()}
        return tree | {"seconds": self.seconds, "missing": list(self.missing)}
