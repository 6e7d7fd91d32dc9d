"""FedProx: federated optimization in heterogeneous networks (arXiv 1812.06127).

FedAvg whose clients pay for the distance to the average that they began with: + mu / 2 ||w - w_average||^2. The halves
and messages are FedAvg's, which takes mu = 0. Clients take equal numbers of steps here, so that the original's partial
work (a tolerance on inexact solutions) has no part. Its code (litian96/FedProx) adds mu (w - w_average) to each
gradient: the same.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from fedloom.methods import fedavg


class FedProxSettings(fedavg.FedAvgSettings):
    """FedAvg's, with the weight of the distance."""

    mu: float = Field(0.01, ge=0, description="weight of the distance to the average; 0 is FedAvg")


METHOD = replace(fedavg.METHOD, name="fedprox", settings=FedProxSettings)
