"""Between a method and what carries its messages: messages, wire contract, engines, ledger."""

from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.engines.local import LocalFederation
from fedloom.federation.exchange import Missing, Reply
from fedloom.federation.host import ClientError, ClientHost, ClientSpec, HostedClient
from fedloom.federation.ledger import Ledger, read_ledger
from fedloom.federation.messages import ContractBreach, Empty, Number, Tensor, Tensors

__all__ = [
    "ClientError",
    "ClientHost",
    "ClientSpec",
    "ContractBreach",
    "Empty",
    "Federation",
    "HostedClient",
    "Ledger",
    "LocalFederation",
    "Missing",
    "Number",
    "Reply",
    "Tensor",
    "Tensors",
    "WireContract",
    "read_ledger",
]
