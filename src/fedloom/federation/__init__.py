"""The seam between a method and whatever carries its messages: messages, contract, engines, ledger."""

from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.exchange import Missing, Reply
from fedloom.federation.ledger import Ledger, read_ledger
from fedloom.federation.engines.local import LocalFederation
from fedloom.federation.messages import ContractBreach, Empty, Tensor, Tensors
from fedloom.federation.host import HostedClient, ClientHost, ClientError, ClientSpec

__all__ = [
    "Client",
    "ContractBreach",
    "Empty",
    "Federation",
    "Ledger",
    "LocalFederation",
    "Missing",
    "Reply",
    "Site",
    "SiteError",
    "ClientSpec",
    "Tensor",
    "Tensors",
    "WireContract",
    "read_ledger",
]
