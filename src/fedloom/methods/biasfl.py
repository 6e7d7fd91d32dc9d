"""Bias-FL: federated averaging of biases on one frozen backbone (FedMMKT, Table VII; BitFit: arXiv 2106.10199).

    down  the mean of all clients' biases (in the first round: nothing)
    up    every bias of the backbone, and the number of private samples

As LoRA-FL, see there; what is trained and exchanged is every parameter whose name ends in "bias". Heads stay at home.
"""

from __future__ import annotations

from fedloom.config import ClientsSettings
from fedloom.methods import fedavg
from fedloom.methods.base import Method
from fedloom.models.clients.adapters import HEAD


class BiasFLSettings(fedavg.FedAvgSettings):
    """FedAvg's."""


class BiasFLClient(fedavg.FedAvgClient):
    """Exchanges biases, but for the head's."""

    def shares(self, name: str) -> bool:
        """What ends in "bias"."""
        return name.endswith("bias") and not HEAD.search(name)


def _models(settings: BiasFLSettings, clients: ClientsSettings) -> ClientsSettings:
    return clients.alike("bias")


METHOD = Method(
    "bias-fl",
    BiasFLSettings,
    BiasFLClient,
    fedavg.FedAvgServer,
    fedavg.METHOD.verbs,
    models=_models,
    peers=fedavg.METHOD.peers,
)
