"""Who takes part in a round: of settings, seed, round and names alone, so that every engine and a resumed run agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fedloom.config import Config
from fedloom.config.participation import ParticipationSettings, Presence, TraceRow
from fedloom.data.io.files import numbered_lines
from fedloom.data.io.tables import read_columns
from fedloom.errors import BadInput, unknown
from fedloom.federation.base import Federation
from fedloom.seeding import numpy_stream
from fedloom.strict_json import parse

COLUMNS = ("client", "round", "state")


@dataclass(frozen=True)
class Attendance:
    """The clients of a round, each in one of these; `late`: asked, but their answers are not used."""

    present: tuple[str, ...]
    late: tuple[str, ...]
    away: tuple[str, ...]
    gone: tuple[str, ...]
    awaited: tuple[str, ...]  # they have not joined yet

    @property
    def members(self) -> tuple[str, ...]:
        """All that have joined and not left."""
        return (*self.present, *self.late, *self.away)


def attendance(settings: ParticipationSettings, seed: int, t: int, clients: Iterable[str]) -> Attendance:
    """Who is where in round t; in round 0, before the first, all that are there in it are present."""
    told = {client: state for client, at, state in settings.trace_rows if at == t}
    ends = dict(settings.leave)
    for client, at, state in settings.trace_rows:
        if state == "gone":
            ends[client] = min(at, ends.get(client, at))
    found: dict[str, list[str]] = {state: [] for state in ("present", "late", "away", "gone", "awaited")}
    draws: dict[str, float] = {}
    for client in sorted(clients):
        if client in ends and t >= ends[client]:
            found["gone"].append(client)
        elif client in told:
            found[told[client]].append(client)
        elif max(t, 1) < settings.join.get(client, 1):
            found["awaited"].append(client)
        elif t == 0:
            found["present"].append(client)
        else:
            away, late, draws[client] = _drawn(settings, seed, t, client)
            found["away" if away else "late" if late else "present"].append(client)
    if settings.share < 1:
        _draw(settings.share, draws, found)
    return Attendance(**{state: tuple(sorted(names)) for state, names in found.items()})


def _drawn(s: ParticipationSettings, seed: int, t: int, client: str) -> tuple[bool, bool, float]:
    """Whether a client is away in round t, whether it is late, and what decides whether it is drawn."""
    numbers = numpy_stream(seed, "participation", client).random((t, 3))  # (t, 3): those of earlier rounds first
    away = False
    back = s.away if s.stay is None or not s.away else s.away * (1 - s.stay) / (1 - s.away)  # that one present is away
    for i, number in enumerate(numbers[:, 0] if s.away else ()):
        chance = s.away if i == 0 else back if not away else s.away if s.stay is None else s.stay
        away = bool(number < chance)
    return away, bool(numbers[-1, 1] < s.late), float(numbers[-1, 2])


def _draw(share: float, draws: Mapping[str, float], found: dict[str, list[str]]) -> None:
    """Of those that are there and that no trace speaks of, all but the share `share`, at least one, are away."""
    away = set(found["away"])
    there = sorted((k for k in draws if k not in away), key=lambda k: (draws[k], k))
    left = set(there[max(1, round(share * len(there))) :])
    for state in ("present", "late"):
        found[state] = [client for client in found[state] if client not in left]
    found["away"] += left


class Attendances:
    """Of a run: who is asked in its rounds, and who is scored. Without settings all clients always are."""

    def __init__(self, settings: ParticipationSettings | None, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self._last: tuple[tuple[int, tuple[str, ...]], Attendance] | None = None

    def of(self, federation: Federation) -> Attendance | None:
        """Of the federation's round; None: all take part."""
        if self.settings is None:
            return None
        asked = federation.round, federation.everybody
        if self._last is None or self._last[0] != asked:
            self._last = asked, attendance(self.settings, self.seed, *asked)
        return self._last[1]

    @contextmanager
    def round(self, federation: Federation) -> Iterator[bool]:
        """Within it a method's round is done, with those that are there; whether there is anybody."""
        now = self.of(federation)
        if now is None:
            yield True
            return
        with federation.among((*now.present, *now.late), now.late):
            yield bool(federation.clients)

    @contextmanager
    def scoring(self, federation: Federation) -> Iterator[Attendance | None]:
        """Within it all that have joined and not left are asked."""
        now = self.of(federation)
        if now is None:
            yield None
            return
        with federation.among(now.members):
            yield now


# ------------------------------------------------------------------------------------------------------- settings


def with_participation(config: Config, own_data: bool) -> Config:
    """The configuration with its trace read. own_data: clients are those that silos bring, whose names nobody knows.

    Raises:
        BadInput: the file cannot be read, or a client, a round or a class is not of this run.
    """
    p = config.participation
    if p is None:
        return config
    if isinstance(p.trace, str):
        p = p.model_copy(update={"trace": read_trace(Path(p.trace))})
        config = config.model_copy(update={"participation": p})
    clients = config.clients.everyone()
    named = {"join": p.join, "leave": p.leave, "trace": [row[0] for row in p.trace_rows]}
    for key, names in named.items():
        for name in names if not own_data else ():
            if name not in clients:
                raise BadInput(f"participation.{key}: {unknown('client', name, clients)}")
    twice = [row[:2] for row in p.trace_rows]
    if len(set(twice)) < len(twice):
        client, t = next(pair for pair in twice if twice.count(pair) > 1)
        raise BadInput(f"participation.trace: {client} has two states in round {t}, allowed: one")
    return config


def without_effect(config: Config) -> list[str]:
    """What `participation` says of rounds that the run has not, or says in vain, in a line each."""
    p, last = config.participation, config.rounds
    if p is None:
        return []
    found = ["participation.stay has no effect where away is 0"] if p.stay is not None and not p.away else []
    after = {"join": "it never takes part", "leave": "it stays to the end", "classes": "it never appears"}
    for key, what in after.items():
        for name, t in getattr(p, key).items():
            if t > last:
                found.append(f"participation.{key}.{name} = {t}: {what}, as the last round is {last}")
    if beyond := sum(t > last for _, t, _ in p.trace_rows):
        found.append(f"participation.trace: rows of rounds after the last, {last}, have no effect: {beyond}")
    return found


def read_trace(path: Path) -> tuple[TraceRow, ...]:
    """The rows of a CSV file with the columns client, round and state, or of a JSONL file with these keys.

    Raises:
        BadInput: the file cannot be read, or a round or a state is none.
    """
    rows: list[tuple[int, Sequence[Any]]]
    if path.suffix == ".jsonl":
        rows = [(number, _object(path, number, line)) for number, line in numbered_lines(path)]
    else:
        rows = [(number, [value.strip() for value in row]) for number, row in read_columns(path, COLUMNS)]
    return tuple(_row(f"{path} row {number}", *row) for number, row in rows)


def _object(path: Path, number: int, line: str) -> list[Any]:
    try:
        given = parse(line)
    except ValueError as error:
        raise BadInput(f"{path} row {number}: {error}") from None
    if not isinstance(given, dict) or any(key not in given for key in COLUMNS):
        raise BadInput(f"{path} row {number}: {line[:60]}, expected an object with {', '.join(COLUMNS)}")
    return [given[key] for key in COLUMNS]


def _row(place: str, client: Any, t: Any, state: Any) -> TraceRow:
    whole = str(t).isascii() and str(t).isdigit()
    if not whole or not 1 <= int(t) < 2**31:
        raise BadInput(f"{place}: round = {str(t)[:60]!r}, allowed: 1 or more")
    if state not in get_args(Presence):
        raise BadInput(f"{place}: state = {str(state)[:60]!r}, allowed: {', '.join(get_args(Presence))}")
    return str(client), int(t), state
