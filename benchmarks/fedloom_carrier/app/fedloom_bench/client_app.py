"""The client: fedloom's own, which relays to the resident worker. It refuses to have torch in its process."""

import sys
from typing import Any

from fedloom.federation.engines.flower.client_app import make_client_app, to_resident
from fedloom.federation.engines.silo.envelopes import Envelope


def answer(letter: Envelope, node: dict[str, Any]) -> Envelope:
    """The worker's answer."""
    reply = to_resident(letter, node)
    return Envelope({"failed": "torch was imported"}) if "torch" in sys.modules else reply


app = make_client_app(answer)
