"""The messages that a run has kept, read back: what really crossed, in its order."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fedloom.errors import BadInput
from fedloom.federation.codec import decode
from fedloom.federation.contract import WireContract
from fedloom.federation.messages import ContractBreach

_FILE = re.compile(r"round_-?\d+/[0-9a-f]{32}\.msg")


@dataclass(frozen=True)
class Exchange:
    """A request to a client and its reply, None where none came. Read from their files each time, so nobody's use of
    one changes it for another."""

    round: int
    verb: str
    request: Any
    reply: Any = None


@dataclass(frozen=True)
class KeptExchange:
    """The files of an exchange."""

    round: int
    verb: str
    down: Path
    up: Path | None

    def read(self, contract: WireContract) -> Exchange:
        """What it held. Raises BadInput for a file that is not there, or not what was written."""
        request, reply = _read(self.down, contract, self.verb, "down"), None
        if self.up is not None:
            reply = _read(self.up, contract, self.verb, "up")
        return Exchange(self.round, self.verb, request, reply)


def kept_exchanges(
    ledger: Iterable[Mapping[str, Any]], folder: Path, contract: WireContract
) -> dict[str, list[KeptExchange]]:
    """The exchanges of each client that carried knowledge, in the order of the requests.

    ledger: rows; folder: of the messages. A reply that did not fit its contract is none. The n-th reply to a verb in a
    round is the answer to the n-th request.

    Raises:
        BadInput: a row whose message was not kept, or under a name that no message has.
    """
    asked: dict[tuple[str, int, str], deque[int]] = defaultdict(deque)
    found: dict[str, list[KeptExchange]] = {}
    for row in ledger:
        verb, client = str(row.get("verb")), str(row.get("client"))
        if not row["counted"] or verb not in contract.verbs:
            continue
        if (name := row.get("kept")) is None or not _FILE.fullmatch(name):
            raise BadInput(
                f"{folder.parent} has not kept what crossed (round {row['round']}, {client}, {verb}): run it with "
                "--set engine.keep_messages=true"
            )
        own, key = found.setdefault(client, []), (client, row["round"], verb)
        if row["direction"] == "down":
            asked[key].append(len(own))
            own.append(KeptExchange(row["round"], verb, folder / name, None))
        elif asked[key]:
            at = asked[key].popleft()
            if row.get("message") != "(unreadable)":
                own[at] = KeptExchange(row["round"], verb, own[at].down, folder / name)
    return found


def check_kept(exchanges: Mapping[str, Iterable[KeptExchange]]) -> None:
    """Raises BadInput where a message of any exchange is not there, or not what was written: its name is its digest."""
    files = {path: None for each in exchanges.values() for e in each for path in (e.down, e.up) if path is not None}
    for path in files:
        try:
            whole = blake2b(path.read_bytes(), digest_size=16).hexdigest() == path.stem
        except OSError as error:
            raise BadInput(f"{path}: the message that was kept cannot be read: {error.strerror or error}") from error
        if not whole:
            raise BadInput(f"{path}: the message that was kept is not what was written (its name is its digest)")


def _read(path: Path, contract: WireContract, verb: str, direction: Any) -> Any:
    try:
        return decode(path.read_bytes(), contract.types(verb, direction), contract.largest)
    except (OSError, ContractBreach) as error:
        raise BadInput(f"{path}: the message that was kept cannot be read: {error}") from error
