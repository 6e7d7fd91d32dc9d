"""FedMSplit: correlation-adaptive federated multi-task learning across multimodal split networks (KDD 2022).

    down  blocks of parameters that are this client's own: a mean over clients that are like it (at first: nothing)
    up    the blocks after private training, and the number of private samples

Models are split into blocks: a stream for each kind of data, and the fusion head. Each kind of block is a view of one
graph over the clients, whose edges are learned anew each round from the blocks themselves; clients of different kinds
of data are joined by the blocks that they have in common. Each client gets back its neighbours' blocks:

    a_b(k, l) = exp((cos(d_bk, d_bl) - 1) / T),   d_bk = theta_bk - theta_b0         similarity in the view of block b
    e(k, l)   = mean of a_b(k, l) over the blocks b that both have                   over all views
    theta_bk <- sum_l n_l a_b(k, l) e(k, l) theta_bl / sum_l n_l a_b(k, l) e(k, l)   l over those who have b

With a large T all clients are alike, and this is FedAvg; with a small one each is alone. The graph is over the clients
of a round; one that is away finds its blocks as they were. The paper has no model that all share: `shared_model`,
which is scored like the other methods', is FedAvg's mean of the clients' blocks, and no client trains it.

Neither the paper's text nor code of the authors' was at hand: taken from its abstract, and from what others'
experiments make of it. Ours: cosines of what blocks have learned since the weights theta_0 that all start from (weights
themselves hardly differ; inner products, as others take, grow with a block), of trained parameters only; the samples
n_l; statistics of normalisation are mixed as the block that they are of. `mu` holds a client near the blocks that it
was given. The server keeps every client's blocks: as many times the model as there are clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedloom.federation.messages import Empty
from fedloom.methods import fedavg
from fedloom.methods.base import ServerContext
from fedloom.methods.fedavg import FedAvgAverage, FedAvgUpdate
from fedloom.methods.robust import mean_parameters
from fedloom.methods.state import Arrays, Kept
from fedloom.models.clients.multimodal import group_of
from fedloom.tasks import ClientTask


class FedMSplitSettings(fedavg.LocalSettings):
    """FedAvg's without its average, with the graph's temperature."""

    secure: Literal[False] = Field(False, description="no: its server needs more than sums")
    temperature: float = Field(
        1.0, gt=0, description="T of the similarities: large, all clients count alike; small, each is alone"
    )


def similarities(learned: Sequence[NDArray[Any]], temperature: float) -> NDArray[np.float64]:
    """a (K, K), in (0, 1] and 1 on the diagonal, of what K blocks have learned, (P,) each.

    A block that has learned nothing is like no other one: its cosine is 0.
    """
    d = np.stack([np.asarray(v, dtype=np.float64) for v in learned])
    length = np.linalg.norm(d, axis=1, keepdims=True)
    units = d / np.where(length > 0, length, 1)
    cosines = np.clip(units @ units.T, -1, 1)
    np.fill_diagonal(cosines, 1)
    return np.exp((cosines - 1) / temperature)


class FedMSplitServer(fedavg.FedAvgServer):
    """Every client's blocks, and the mean over all, which nobody trains."""

    settings: FedMSplitSettings  # type: ignore[assignment]  # each client has its own mix: there is one average less
    personal: Kept[dict[str, Arrays]]  # client -> its blocks

    def __init__(self, context: ServerContext, settings: FedMSplitSettings) -> None:
        super().__init__(context, settings)  # type: ignore[arg-type]
        self.personal = {}
        self._alone: float | None = None  # mean share that clients have in their own blocks
        self._start: Arrays | None = None  # theta_0, of trained parameters

    def message(self, client: str, modality: str) -> FedAvgAverage | Empty:
        """The client's own blocks; one that is new starts from the mean."""
        return FedAvgAverage(self.personal[client]) if client in self.personal else super().message(client, modality)

    def aggregate(self, kind: str, updates: Mapping[str, FedAvgUpdate]) -> Arrays:
        """Learns the graph and mixes; the mean of the blocks."""
        clients = sorted(updates)
        shares = self._shares([updates[k] for k in clients])
        for row, client in enumerate(clients):
            self.personal[client] = {
                name: mixed([updates[k].parameters.get(name) for k in clients], shares[group_of(name)][row])
                for name in updates[client].parameters
            }
        self._alone = float(np.mean([np.diagonal(w)[np.diagonal(w) > 0].mean() for w in shares.values()]))
        return mean_parameters(updates)

    def _shares(self, updates: Sequence[FedAvgUpdate]) -> dict[str | None, NDArray[np.float64]]:
        """By block, the share (K, K) of each client (column) in each one's (row); 0 for who lacks the block."""
        views = self._views(updates)
        count = np.sum([a > 0 for a in views.values()], axis=0)
        edges = np.sum(list(views.values()), axis=0) / np.maximum(count, 1)
        n = np.array([u.samples for u in updates], dtype=np.float64)
        weights = {block: n * a * edges for block, a in views.items()}
        return {block: w / np.maximum(w.sum(1, keepdims=True), 1e-300) for block, w in weights.items()}

    def _views(self, updates: Sequence[FedAvgUpdate]) -> dict[str | None, NDArray[np.float64]]:
        """By block, a (K, K); 0 where either lacks it."""
        start = self._beginning()
        found: dict[str | None, NDArray[np.float64]] = {}
        for block in dict.fromkeys(group_of(name) for u in updates for name in u.parameters):
            names = [name for name in start if group_of(name) == block]
            owners = [i for i, u in enumerate(updates) if any(group_of(name) == block for name in u.parameters)]
            learned = [np.concatenate([(updates[i].parameters[n] - start[n]).ravel() for n in names]) for i in owners]
            found[block] = np.zeros((len(updates), len(updates)))
            found[block][np.ix_(owners, owners)] = similarities(learned, self.settings.temperature)
        return found

    def _beginning(self) -> Arrays:
        """The weights that all multimodal clients start from, of what is trained."""
        if self._start is None:
            assert self.context.models is not None  # METHOD.uses
            model = self.context.models(ClientTask.MULTIMODAL_CLASSIFICATION).model
            named = model.named_parameters()
            self._start = {n: p.detach().cpu().numpy().copy() for n, p in named if p.requires_grad}
        return self._start

    def observe(self, updates: Mapping[str, FedAvgUpdate]) -> dict[str, float | None]:
        """How much of its blocks a client has from itself, on average."""
        return {"own_share": self._alone}


def mixed(blocks: Sequence[NDArray[Any] | None], shares: NDArray[np.float64]) -> NDArray[Any]:
    """sum of the blocks times their shares (K,), of those that are there."""
    weighed = (b.astype(np.float64) * w for b, w in zip(blocks, shares) if b is not None)
    return np.asarray(sum(weighed), dtype=np.float32)


METHOD = replace(
    fedavg.METHOD,
    name="fedmsplit",
    settings=FedMSplitSettings,
    server=FedMSplitServer,
    tasks=frozenset({ClientTask.MULTIMODAL_CLASSIFICATION}),
    private_steps=None,
    needs_server="its server compares the streams of all clients",
)
