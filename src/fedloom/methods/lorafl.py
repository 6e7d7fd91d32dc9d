"""LoRA-FL: federated averaging of low-rank factors on one frozen backbone (FedMMKT, Table VII; LoRA: arXiv 2106.09685).

    down  the mean of all clients' factors (in the first round: nothing)
    up    the factors A and B of every query and value projection, and the number of private samples

Every client holds the same model of both modalities: a ViT and a BERT under one head, whose backbones are frozen. A
client trains W + B A, B zero at first, and its own head, which stays at home; whatever its modality, the server
averages all factors over all clients. That it loses by this is what the paper shows.

FedDAT's code has it as a baseline: factors of query and value, rank 16, heads at home.

Ours: rank 8; ViT and BERT instead of ViLT, each as large as the first configured client's model; a client's absent
modality is one blank, so that its factors there are trained on nothing but that; alpha = rank. It begins with the same
number of private steps before round 1 as every method, taken on factors and head.
"""

from __future__ import annotations

from pydantic import Field

from fedloom.config import ClientsSettings
from fedloom.methods import fedavg
from fedloom.methods.base import Method
from fedloom.models.clients.adapters import HEAD


class LoRAFLSettings(fedavg.FedAvgSettings):
    """FedAvg's, and the factors' rank."""

    rank: int = Field(8, ge=1, description="r of the factors")


class LoRAFLClient(fedavg.FedAvgClient):
    """Exchanges what is trained, but for the head."""

    def shares(self, name: str) -> bool:
        """A and B."""
        return ".lora_" in name and not HEAD.search(name)


def _models(settings: LoRAFLSettings, clients: ClientsSettings) -> ClientsSettings:
    return clients.alike("lora", settings.rank)


METHOD = Method(
    "lora-fl",
    LoRAFLSettings,
    LoRAFLClient,
    fedavg.FedAvgServer,
    fedavg.METHOD.verbs,
    models=_models,
    peers=fedavg.METHOD.peers,
)
