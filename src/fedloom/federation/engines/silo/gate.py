"""What a server may have of a silo, and what it has had: a run's counts are on disk before a reply leaves.

runs/RUN/spent.json     {"run": counts, "rounds": {"3": counts}}: steps, seconds, bytes_up, samples, queries, refused
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field as Bounded
from pydantic import with_config
from typing_extensions import TypedDict

from fedloom.config.bounds import RoundBounds, SiloBounds
from fedloom.federation.contract import Direction, WireContract
from fedloom.federation.messages import BoundBreach, Tensor, fields_of
from fedloom.limits import before_each_step
from fedloom.runs.disk import read_object, write_atomic
from fedloom.runs.shapes import OPEN

Kind = Literal["steps", "seconds", "bytes_up", "samples", "queries"]
BEYOND = "beyond this silo's bounds: "  # how every refusal begins
SAMPLES = frozenset({"N", "S", "P", "M"})  # the letters of a first axis that counts samples
NAMES = "names"  # a field of texts that are names of clients, not samples
ROUNDS = 64  # of which a run's counts are kept apart; what is asked in the name of older ones counts for the oldest
_PAUSE = 10.0  # seconds of training after which what is spent is written
_Count = Annotated[float, Bounded(ge=0, lt=2**63)]


@with_config(OPEN)
class Counts(TypedDict):
    """What one round, or a run, has had."""

    steps: _Count
    seconds: _Count
    bytes_up: _Count
    samples: _Count
    queries: _Count
    refused: _Count


@with_config(OPEN)
class _Spent(TypedDict, total=False):
    run: Counts
    rounds: dict[str, Counts]


class _Work(NamedTuple):
    """What is being done: for which round, since when, and when its counts were last written (`time.monotonic`)."""

    round: int
    begun: float


class SiloGate:
    """The bounds of a silo over the run whose counts lie in `file`; None: they are kept in memory alone.

    Raises FedloomError where the file cannot be read.
    """

    def __init__(self, bounds: SiloBounds, file: Path | None) -> None:
        self.bounds, self.file = bounds, file
        found = {} if file is None else read_object(file, _Spent)
        self.run: Counts = found.get("run") or _nothing()
        self.rounds: dict[int, Counts] = {int(t): counts for t, counts in found.get("rounds", {}).items()}
        self._work: _Work | None = None
        self._written = 0.0

    # -------------------------------------------------------------------------------------------- what comes

    @staticmethod
    def receive(bounds: SiloBounds, payload: bytes) -> None:
        """Raises BoundBreach for a message that is larger than the server may send."""
        if bounds.public_bytes is not None and len(payload) > bounds.public_bytes:
            raise _breach("public_bytes", bounds.public_bytes, f"the message has {len(payload)} bytes")

    def check(self, contract: WireContract, verb: str, message: Any, direction: Direction) -> None:
        """Raises BoundBreach for a request that no reply is allowed to, and for a reply that may not leave."""
        assert self._work is not None
        if direction == "up":
            self._may_leave([f for f in fields_of(type(message)) if getattr(message, f.name) is not None], message)
            self.spend("samples", samples_of(message))
            return
        if self.bounds.fields is not None:
            (reply,) = contract.types(verb, "up")
            self._may_leave([f for f in fields_of(reply) if not f.optional], reply)
        most, weights = self.bounds.parameters, weights_of(message)
        if most is not None and weights > most:
            raise _breach("parameters", most, f"the message holds a model of {weights} weights")
        self._room("samples", samples_of(message))

    def _may_leave(self, fields: Collection[Any], message: Any) -> None:
        allowed = self.bounds.fields
        owner = (message if isinstance(message, type) else type(message)).__name__
        for field in fields:
            if allowed is not None and not {field.name, f"{owner}.{field.name}"} & set(allowed):
                raise _breach("fields", ", ".join(allowed) or "none", f"{owner}.{field.name} would leave")

    # ---------------------------------------------------------------------------------------------- counting

    @contextmanager
    def work(self, round: int) -> Iterator[None]:
        """Counts a query for `round`, and what is done meanwhile: steps and seconds. Raises BoundBreach."""
        self._work = _Work(round, time.monotonic())
        try:
            self._room("seconds", 0)
            self.spend("queries", 1)
            self.write()  # before anything is done: who dies over a request has answered it
            with before_each_step(self._step):
                yield
        finally:
            self._elapsed()
            self._work = None
            self.write()

    def sent(self, payload: bytes) -> None:
        """Counts the bytes of a reply that is about to leave. Raises BoundBreach; inside `work`."""
        self.spend("bytes_up", len(payload))

    def refuse(self) -> None:
        """Counts a refusal."""
        self.run["refused"] += 1
        self.write()

    def spend(self, kind: Kind, n: float) -> None:
        """Counts `n` for the round of `work` and for the run. Raises BoundBreach, and counts nothing, where a bound is
        passed."""
        self._room(kind, n)
        for counts in (self._round, self.run):
            counts[kind] += n

    def write(self) -> None:
        """Puts the counts on disk. Raises FedloomError."""
        self._written = time.monotonic()
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        kept = {str(t): counts for t, counts in sorted(self.rounds.items())}
        write_atomic(self.file, json.dumps({"run": self.run, "rounds": kept}))

    @property
    def _round(self) -> Counts:
        """The counts of the round that is worked for."""
        assert self._work is not None
        t = self._work.round
        if t not in self.rounds:
            if len(self.rounds) >= ROUNDS:
                if t < (oldest := min(self.rounds)):
                    return self.rounds[oldest]
                del self.rounds[oldest]
            self.rounds[t] = _nothing()
        return self.rounds[t]

    def _room(self, kind: Kind, n: float) -> None:
        assert self._work is not None
        scopes: tuple[tuple[str, RoundBounds, Counts], ...] = (
            ("round", self.bounds.round, self._round),
            ("run", self.bounds.run, self.run),
        )
        for scope, bounds, counts in scopes:
            most = getattr(bounds, kind)
            if most is not None and (had := counts[kind]) + n > most:
                at = f"round {self._work.round}" if scope == "round" else "this run"
                more = f", and {n:.12g} more are asked for" if n else ""
                raise _breach(f"{scope}.{kind}", most, f"{at} has had {had:.{12 if n else 3}g}{more}")

    def _step(self) -> None:
        """Before each step of training."""
        self.spend("steps", 1)
        self._elapsed()
        self._room("seconds", 0)
        if time.monotonic() - self._written > _PAUSE:
            self.write()

    def _elapsed(self) -> None:
        """Counts the seconds since they were last counted."""
        assert self._work is not None
        now = time.monotonic()
        for counts in (self._round, self.run):
            counts["seconds"] += now - self._work.begun
        self._work = self._work._replace(begun=now)


def samples_of(message: Any) -> int:
    """How many shared samples a message is about: the longest first axis that counts samples, or of texts."""
    found = [0]
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if value is None:
            continue
        first = field.spec.shape[:1] if isinstance(field.spec, Tensor) else ()
        if (field.kind == "texts" and field.name != NAMES) or SAMPLES.intersection(first):
            found.append(len(value))
    return max(found)


def weights_of(message: Any) -> int:
    """How many numbers a message holds in groups of arrays: the parameters of models."""
    groups = (getattr(message, field.name) for field in fields_of(type(message)) if field.kind == "tensors")
    return sum(array.size for group in groups if group is not None for array in group.values())


def _nothing() -> Counts:
    return Counts(steps=0, seconds=0.0, bytes_up=0, samples=0, queries=0, refused=0)


def _breach(key: str, most: Any, asked: str) -> BoundBreach:
    return BoundBreach(f"{BEYOND}{asked}; bounds.{key} = {most}")
