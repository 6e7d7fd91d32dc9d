"""FedAFD whose server is taught by a model that saw all pairs: the bound of what server distillation can bring.

No federation could run it. Two encoders like the server's, from the same first weights, learn by matching on the public
pairs and on those of all image-text clients, pooled; none that anything is scored on is among them. What they make of
the public set takes the place of the clients' ensemble (SED) in every round; all else is FedAFD's, and clients do the
same. Where the server does not move by this teacher either, it is not for want of knowing clients.

Without a client that reads a modality, the server's encoder of it is not taught, as in FedAFD.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedloom.data.pairs import ImageTextPairs
from fedloom.errors import BadInput
from fedloom.functional.matching import PairMatching
from fedloom.functional.norms import unit
from fedloom.methods import fedafd
from fedloom.methods.base import ServerContext
from fedloom.methods.context import rows
from fedloom.methods.fedafd import Bank, FedAFDServer, FedAFDSettings
from fedloom.methods.retrieval_messages import MODALITIES
from fedloom.methods.state import Kept
from fedloom.models.fit import adamw, fit, index_batches
from fedloom.seeding import global_torch_stream
from fedloom.tasks import ClientTask, Modality


class FedAFDOracleSettings(FedAFDSettings):
    """With how long the teacher learns."""

    oracle_steps: int = Field(400, ge=1, description="matching steps of the teacher, once, at the server's rate")


class FedAFDOracleServer(FedAFDServer):
    """Believes the teacher."""

    settings: FedAFDOracleSettings
    taught: Kept[dict[Modality, Tensor]]  # the teacher's unit representations (P, D) of the public set

    def __init__(self, context: ServerContext, settings: FedAFDOracleSettings) -> None:
        super().__init__(context, settings)
        if not isinstance(context.pairs, ImageTextPairs):
            raise BadInput(
                "fedafd-oracle: nobody here holds all clients' pairs; the bound needs data with image-text clients"
            )
        self.taught = {}

    def ensemble(self, m: Modality, z: Tensor, present: Tensor, bank: Bank) -> tuple[Tensor, float | None]:
        """The teacher's, whatever clients say; the entropy is that of the weights that FedAFD would give them."""
        if not self.taught:
            self.taught = self._teacher()
        return self.taught[m], super().ensemble(m, z, present, bank)[1]

    def _teacher(self) -> dict[Modality, Tensor]:
        """Trains two encoders on all pairs; their unit representations of the public set."""
        s, context, private = self.settings, self.context, self.context.pairs
        assert context.models is not None
        models = {m: context.models(ClientTask(m)) for m in MODALITIES}
        pictures = np.concatenate([self.pairs.images, private.images])
        owner = torch.from_numpy(np.concatenate([np.arange(len(self.pairs)), len(self.pairs) + private.owner]))
        images = models[Modality.IMAGE].stored(pictures)
        texts = models[Modality.TEXT].inputs((*self.pairs.texts, *private.captions))
        matching = PairMatching()
        trained = [p for own in models.values() for p in own.model.parameters()]
        draws = {m: context.draws("oracle", m) for m in MODALITIES}

        def loss(i: Tensor) -> Tensor:
            seen = {Modality.IMAGE: rows(images, owner[i]), Modality.TEXT: rows(texts, i)}
            z = {m: unit(own.model.encode(**own.views(seen[m], draws[m]))) for m, own in models.items()}  # type: ignore[operator]
            total: Tensor = matching(z[Modality.IMAGE], z[Modality.TEXT])
            return total / len(i)

        for own in models.values():
            own.model.train()
        batch = min(own.batch for own in models.values())
        cut = index_batches(len(owner), batch, s.oracle_steps, context.rng("oracle"))
        with global_torch_stream(context.seed, "server", "oracle", "dropout"):
            optimizer = adamw([*trained, *matching.parameters()], s.server_rate)
            fit(optimizer, map(torch.from_numpy, cut), loss, name="the oracle's teacher")
        return {m: unit(own.encode(self.public[m])) for m, own in models.items()}


METHOD = replace(
    fedafd.METHOD,
    name="fedafd-oracle",
    settings=FedAFDOracleSettings,
    server=FedAFDOracleServer,
    uses=frozenset({"models", "public", "pairs"}),
    oracle=True,
)
