"""What a silo and the server say to each other besides the messages of the method.

An envelope is a JSON header and some payloads. Down, `op` in the header says what is asked:

    hello    who are you                          up: silo, about (modality and model, or None), protocol, version
    join     take part in `run` (payload: Join)   up: clients {name: modality}
    ask      `requests`: client, verb, round, key, and which payload    up: `outcomes`, and which payload
    rewind   be again as at the end of `round`    up: clients
    finish   `run` is over: keep the models       up: clients
    ping     nothing                              up: loads, pid

An answer with `failed` says in one line why there is none; `unjoined` that the silo does not know the run (any more).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fedloom.federation.messages import Array, Tensors

PROTOCOL = 2  # raise when a silo and a server of different versions would misunderstand each other


class Envelope(NamedTuple):
    """A header, and payloads that it refers to by their place."""

    header: dict[str, Any]
    payloads: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Join:
    """What taking part in a run needs.

    contract: the wire contract as JSON of names; a silo with a recipe of its own only compares it with what it knows.
    assigned: JSON {silo: [recipes of its clients]}, for silos that the server's own process started; else "".
    offer: JSON with what a silo's own recipe is to know of the run; else "".
    public: files that are no secret, such as the common vocabulary, by their relative path.
    """

    contract: str
    assigned: str
    offer: str
    public: Annotated[Mapping[str, Array], Tensors("uint8")]
