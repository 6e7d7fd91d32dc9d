"""The seam between a method and whatever carries its messages: messages, contract, engines, ledger."""

from fedloom.federation.base import Federation
from fedloom.federation.contract import WireContract
from fedloom.federation.exchange import Missing, Reply
from fedloom.federation.ledger import Ledger, read_ledger
from fedloom.federation.local import LocalFederation
from fedloom.federation.messages import ContractBreach, Empty, Tensor, Tensors
from fedloom.federation.site import ClientHalf, Site, SiteError, SiteSpec

__all__ = [
    "ClientHalf",
    "ContractBreach",
    "Empty",
    "Federation",
    "Ledger",
    "LocalFederation",
    "Missing",
    "Reply",
    "Site",
    "SiteError",
    "SiteSpec",
    "Tensor",
    "Tensors",
    "WireContract",
    "read_ledger",
]
