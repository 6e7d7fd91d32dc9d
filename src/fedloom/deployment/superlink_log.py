"""What a SuperLink's log says of silos, in our own words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping

from fedloom.deployment.superlink_process import HANDSHAKE

_QUIET = 30.0  # seconds for which the same line is not said again
_CLIENT = re.compile(r'(\S+):\d+ - "POST (/v1/fleet/\S+) HTTP/[\d.]+" (\d+)')
_ORDER = re.compile(r'(\S+):\d+ - "[A-Z]+ \S* HTTP/[\d.]+" 403')  # what `superlink_process.LocalOrders` refused
_NODE = re.compile(r"\[Fleet\.(Activate|Deactivate)Node\] \w+ node_id=(\d+)")
LISTENING = "Uvicorn running on"  # said once the port is the SuperLink's
_LATE = "late"  # a silo still at work when its run ended: no refusal of the silo
_PLAIN = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")


class Reader:
    """Reads lines of the log and tells `say`, in a line each, who came, who left, who was refused.

    names: gives the names of the nodes.
    """

    def __init__(self, say: Callable[[str], None], names: Callable[[], Mapping[str, str]]) -> None:
        self._tell, self._names = say, names
        self._refusal = ""
        self._said: dict[str, float] = {}

    def read(self, lines: Iterable[str]) -> None:
        """Takes the lines written since the last call."""
        for line in lines:
            self._line(line)

    def _line(self, line: str) -> None:
        # Flower says why in a line of its own, before the one that says to whom.
        if "No SuperNode found with the given public key" in line:
            self._refusal = "its key is not registered; `fedloom pki issue NAME` gives a silo one"
        elif "could not be activated" in line:
            self._refusal = "it is connected already; a crashed silo counts as connected for up to a minute"
        elif "Run is finished" in line:
            self._refusal = _LATE
        elif line.startswith(HANDSHAKE):
            self._handshake(line.removeprefix(HANDSHAKE))
        elif (found := _NODE.search(line)) is not None:
            came, node = found.groups()
            name = self._names().get(node, node)
            self._tell(f"silo {name} {'connected' if came == 'Activate' else 'left'}")
        elif (found := _CLIENT.search(line)) is not None and found[3] in ("401", "403", "412"):
            why, self._refusal = self._refusal, ""
            if why is _LATE:
                return
            if found[3] != "412":
                why = "its signature is not that of a silo that is admitted"
            self._say(f"refused a silo at {found[1]}: {why or f'status {found[3]}'}")
        elif (found := _ORDER.search(line)) is not None:
            self._say(f"refused a command from {found[1]}: this server takes commands from its own machine only")

    def _handshake(self, why: str) -> None:
        if why in _PLAIN:
            self._say("refused a client without TLS, such as a silo with --insecure")
        elif "ALERT_" in why:
            alert = why.rpartition("ALERT_")[2].replace("_", " ").lower()
            self._say(f"refused a client: it does not trust this server's certificate ({alert})")

    def _say(self, line: str) -> None:
        """Says what may come again with every try, once in a while."""
        now = time.monotonic()
        self._said = {key: then for key, then in self._said.items() if now - then < _QUIET}
        if line not in self._said:
            self._said[line] = now
            self._tell(line)
