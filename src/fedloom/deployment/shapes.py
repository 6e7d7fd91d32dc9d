"""What the JSON files of a server's folder hold; see `runs.shapes`. A file is checked where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import Field, with_config
from typing_extensions import TypedDict  # pydantic's own; that of Python 3.11 cannot be checked

from fedloom.errors import BadInput
from fedloom.runs.disk import parse_object, read_object
from fedloom.runs.shapes import OPEN, Count, Round, RoundRow, Summary, check

Pid = Annotated[int, Field(gt=0, lt=2**31)]


@with_config(OPEN)
class SiloRecord(TypedDict, total=False):
    """silo.json: the processes of a silo, and what was last heard of the server."""

    name: str
    server: str
    state: str
    pid: Pid | None
    worker_pid: Pid | None
    supernode_pid: Pid | None
    kit: str | None


@with_config(OPEN)
class HostRecord(TypedDict):
    """host.json: where a server is reached, and which clients each silo may bring besides its own."""

    address: str
    pki: NotRequired[str | None]
    clients: NotRequired[dict[str, list[str]]]


@with_config(OPEN)
class Admitted(TypedDict):
    """Of nodes.json the entry of a silo: its key, and its node as Flower numbers it."""

    key: NotRequired[str]
    node: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]


# Of `progress.Observer`, with how many arguments.
TOLD = {"stage": 2, "at": 2, "notes": 1, "begin": 1, "phase": 2, "within": 3, "round": 1, "end": 1}


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


@with_config(OPEN)
class _Stage(TypedDict):
    name: str
    total: Count | None


@with_config(OPEN)
class _At(TypedDict):
    done: Count
    note: str


@with_config(OPEN)
class _Within(TypedDict):
    done: Count
    total: Count
    doing: str


_FIRST = {"begin": _Begin, "round": RoundRow, "end": Summary, "notes": list[str]}  # what its one argument is
_MORE = {"phase": _Phase, "stage": _Stage, "at": _At, "within": _Within}  # what its two or three arguments are


def read_nodes(path: Path) -> dict[str, Any]:
    """nodes.json: `Admitted` by the names of silos. Raises BadInput."""
    nodes = read_object(path)
    check(dict[str, Admitted], nodes, str(path))
    return nodes


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
    if name in _FIRST:
        check(_FIRST[name], arguments[0], place)
    if name in _MORE:
        check(_MORE[name], dict(zip(get_type_hints(_MORE[name]), arguments)), place)
    return event
