"""What an engine declares, and what it builds a federation from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.host import ClientSpec
from fedloom.federation.ledger import Ledger


class EngineContext(NamedTuple):
    """What an engine may go by, besides the clients, their wire contract and the ledger.

    settings: `config.EngineSettings`. initialiser: "module:function" that a new process calls with `threads` before it
    builds clients. expected: client -> task, of all clients that the run was set up for. link: what a launcher has
    handed over, such as Flower's Grid. run: what the run is known by, also after a resume. offer: for silos that have
    data of their own, what is offered to them, as JSON, and public files; None where clients are built from recipes.
    parking: a folder of the engine's own for the state of clients that wait to be asked.
    """

    settings: Any
    initialiser: str
    expected: Mapping[str, str]
    link: Any = None
    run: str = ""
    offer: tuple[str, Mapping[str, Any]] | None = None
    parking: Path | None = None


@dataclass(frozen=True)
class Engine:
    """What carries a method's messages.

    build: makes the federation, a context, from the clients' recipes. launch: "module:function" that brings up what
    lies outside of this process, and does the run there (its arguments: `deployment.launch.launch`); "": the run needs
    nothing but `build`.
    """

    name: str
    build: Callable[[Sequence[ClientSpec], WireContract, Ledger, EngineContext], Federation]
    summary: str = ""
    launch: str = ""
