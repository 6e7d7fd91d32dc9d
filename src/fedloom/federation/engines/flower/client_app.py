"""The ClientApp of a silo: hands each envelope to whoever holds the silo's clients, and gives the answer back.

Flower starts a process for each message, so this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedloom.federation.engines.flower.records import pack, pack_payloads, unpack
from fedloom.federation.engines.silo.envelopes import Envelope
from fedloom.federation.engines.silo.relay import relay
from fedloom.federation.messages import ContractBreach

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp

Answer = Callable[[Envelope, dict[str, Any]], Envelope]


def to_resident(envelope: Envelope, node: dict[str, Any]) -> Envelope:
    """The answer of the silo's resident worker, whose socket and token the node's configuration names."""
    if "socket" not in node or "token" not in node:
        return Envelope({"failed": "this node was not started by `fedloom silo up`: it names no worker"})
    return relay(envelope, str(node["socket"]), Path(str(node["token"])))


def make_client_app(answer: Answer = to_resident) -> ClientApp:
    """A ClientApp that answers queries with `answer(envelope, node configuration)`."""
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.query()  # type: ignore[untyped-decorator]
    def _query(message: Message, context: Context) -> Message:
        try:
            reply = answer(unpack(message.content), dict(context.node_config))
        except ContractBreach as breach:
            reply = Envelope({"failed": str(breach)})
        return Message(pack(reply.header, pack_payloads(reply.payloads)), reply_to=message)

    return app
