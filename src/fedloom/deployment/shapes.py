"""What the JSON files of a server's folder hold; see `runs.shapes`. A file is checked where it is read."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict  # pydantic's own; that of Python 3.11 cannot be checked

from fedloom.errors import BadInput
from fedloom.runs.disk import parse_object
from fedloom.runs.shapes import OPEN, Round, check

Pid = Annotated[int, Field(gt=0, lt=2**31)]

# Of `progress.Observer`, with how many arguments.
TOLD = {"stage": 2, "at": 2, "notes": 1, "begin": 1, "phase": 2, "round": 1, "end": 1}


@with_config(OPEN)
class JobRecord(TypedDict):
    """jobs/ID.json: a run that was handed over."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    flower: str
    out: str | None
    resume: str | None


@with_config(OPEN)
class _Event(TypedDict, total=False):
    event: str
    time: float
    arguments: list[Any]


@with_config(OPEN)
class _Process(TypedDict):
    pid: Pid


@with_config(OPEN)
class _Begin(TypedDict):
    folder: str
    rounds: Round


@with_config(OPEN)
class _Phase(TypedDict):
    round: Round
    name: str


@with_config(OPEN)
class _Over(TypedDict):
    folder: str | None
    error: str | None
    bad_input: NotRequired[bool]


def read_event(line: bytes, place: str) -> dict[str, Any]:
    """A line of an event file. Raises BadInput, with `place`, where it is none that `events.EventLog` writes."""
    event = parse_object(line, place, _Event)
    name, arguments = event.get("event"), event.get("arguments", [])
    if name in ("process", "over"):
        check(_Process if name == "process" else _Over, event, place)
    if name in TOLD and len(arguments) != TOLD[name]:
        raise BadInput(f"{place}: {len(arguments)} arguments of {name!r}, expected {TOLD[name]}")
    if name in ("begin", "round", "end") and not isinstance(arguments[0], dict):
        raise BadInput(f"{place}: the argument of {name!r} is a {type(arguments[0]).__name__}, expected an object")
    if name == "begin":
        check(_Begin, arguments[0], place)
    if name == "phase":
        check(_Phase, {"round": arguments[0], "name": arguments[1]}, place)
    return event
