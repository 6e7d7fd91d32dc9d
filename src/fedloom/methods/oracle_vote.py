"""FedMMKT whose vote is always right: the bound of what better votes could bring. No federation could run it.

The judge that scores the generator gives every synthetic sample its label, and all samples are kept; all else is
FedMMKT's (`labvote`, `gamma` and `quorum_of` have no effect). The gap from FedMMKT's scores to these is due to wrong
and missing labels, the gap from these to 1 to all the rest.
"""

from __future__ import annotations

from dataclasses import replace

from fedloom.errors import FedloomError
from fedloom.federation.base import Federation
from fedloom.methods import fedmmkt
from fedloom.methods.base import ServerContext
from fedloom.methods.fedmmkt import FedMMKTServer, FedMMKTSettings
from fedloom.methods.replies import ClientOutputs
from fedloom.methods.shared_samples import Aggregate, SharedSamples


class OracleVoteServer(FedMMKTServer):
    """Labels by the judge in place of S2."""

    def __init__(self, context: ServerContext, settings: FedMMKTSettings) -> None:
        super().__init__(context, settings.model_copy(update={"labvote": False}))

    def aggregate(self, t: int, federation: Federation, samples: SharedSamples, outputs: ClientOutputs) -> Aggregate:
        """As FedMMKT without its vote, on samples that are called what they show."""
        if self.context.truth is None:
            raise FedloomError("oracle-vote: nobody here knows the truth; the bound needs a judge")
        return super().aggregate(t, federation, replace(samples, labels=self.context.truth(samples.images)), outputs)


METHOD = replace(
    fedmmkt.METHOD,
    name="oracle-vote",
    server=OracleVoteServer,
    oracle=True,
    needs_server="it is a bound, whose server knows the truth",
)
