"""A hypernetwork that makes adapters for a model from its architecture (FedMBridge).

An architecture is a graph: a stem for each kind of input, a node for each block that an adapter follows
(`models.adapters.blocks`), and an output; edges run along the chain.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.models.clients.adapters import blocks
from fedloom.models.clients.client_model import towers
from fedloom.tasks import Modality

# A node's kind, as it crosses the wire. The first two begin a chain, the last ends all of them.
NODE_KINDS = ("picture", "text", "attention", "convolution", "map", "output")
STEMS = 2
OUTPUT = len(NODE_KINDS) - 1
FEATURES = len(NODE_KINDS) + 2
MOST_NODES = 1000


def architecture(model: nn.Module, modality: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """A model's nodes as kinds (V,) and widths (V,): stem and blocks, tower by tower, then the output.

    The blocks are in the order of `models.adapters.blocks`. modality: what a model of one tower reads.
    """
    nodes: list[tuple[int, int]] = []
    models = towers(model)
    stems = (modality,) if len(models) == 1 else (Modality.IMAGE, Modality.TEXT)
    for reads, tower in zip(stems, models, strict=True):
        found = blocks(tower)
        nodes.append((NODE_KINDS.index("picture" if reads == Modality.IMAGE else "text"), found[0][1]))
        nodes += [(_kind(block), width) for block, width in found]
    head: Any = model.head
    nodes.append((OUTPUT, head.in_features))
    kinds, widths = np.array(nodes, np.int32).T.copy()
    return kinds, widths


def _kind(block: nn.Module) -> int:
    if any(isinstance(m, nn.Conv2d) for m in block.modules()):
        return NODE_KINDS.index("convolution")
    plain = isinstance(block, nn.Identity | nn.Linear | nn.Sequential)
    return NODE_KINDS.index("map" if plain else "attention")


class Graph:
    """A client's architecture as the hypernetwork reads it.

    `features` (V, F): one-hot kind, log width, depth in the chain from 0 to 1. `mean` (V, V): each row averages over a
    node and its neighbours. `blocks`: node and width of each adapter, in order. `numbers`: P, of all adapters.

    Raises:
        BadInput: it is no architecture, or wider than `widest`.
    """

    def __init__(self, kinds: NDArray[Any], widths: NDArray[Any], rank: int, widest: int) -> None:
        v = len(kinds)
        if not 3 <= v <= MOST_NODES or len(widths) != v:
            raise BadInput(f"an architecture of {v} kinds and {len(widths)} widths, expected 3 to {MOST_NODES}")
        starts = [i for i in range(v) if 0 <= kinds[i] < STEMS]
        inner = [i for i in range(v - 1) if STEMS <= kinds[i] < OUTPUT]
        whole = len(starts) + len(inner) == v - 1 and kinds[-1] == OUTPUT
        if not whole or not inner or 0 not in starts:
            raise BadInput(f"an architecture of kinds {kinds.tolist()}, expected stems, blocks, and an output")
        self.blocks = [(i, int(widths[i])) for i in inner]
        if widths.min() < 1 or any(w > widest for _, w in self.blocks):
            raise BadInput(f"blocks of widths {widths.tolist()}, allowed: 1 to settings.widest = {widest}")
        self.numbers = sum(2 * rank * w + rank + w for _, w in self.blocks)

        depth, near = torch.ones(v), torch.eye(v)
        for start, end in pairwise([*starts, v - 1]):
            chain = [*range(start, end), v - 1]
            depth[chain] = torch.linspace(0, 1, len(chain))
            for one, two in pairwise(chain):
                near[one, two] = near[two, one] = 1
        kind = F.one_hot(torch.from_numpy(kinds).long(), len(NODE_KINDS)).float()
        size = torch.from_numpy(widths).float().log2() / 10  # of order 1
        self.features = torch.cat([kind, size[:, None], depth[:, None]], 1)
        self.mean = near / near.sum(1, keepdim=True)


class Hypernetwork(nn.Module):
    """HN(graph, c; phi): all adapters' weights as one vector (P,), for a client of code c (code,).

    Two layers of mean aggregation over the graph give each block's code z_v (latent,). An MLP of one hidden layer makes
    an adapter for a block `widest` wide from (z_v, c); a narrower block takes its first rows and columns. At first `up`
    is zero and `down` is drawn as a linear layer's: the adapters say nothing.
    """

    def __init__(self, rank: int, widest: int, latent: int, code: int, hidden: int) -> None:
        super().__init__()
        self.rank, self.widest = rank, widest
        self.near, self.far = nn.Linear(FEATURES, latent), nn.Linear(latent, latent)
        self.hidden = nn.Linear(latent + code, hidden)
        self.last = nn.Linear(hidden, 2 * rank * widest + rank + widest)
        with torch.no_grad():
            half = rank * widest + rank  # `down` first
            self.last.weight[half:] = 0
            self.last.bias[half:] = 0

    def forward(self, graph: Graph, code: Tensor) -> Tensor:
        """Block by block: `down` (rank, w), its bias (rank,), `up` (w, rank), its bias (w,), each flat."""
        h = F.relu(self.near(graph.mean @ graph.features))  # (V, latent)
        z = F.relu(self.far(graph.mean @ h))
        nodes = [v for v, _ in graph.blocks]
        given = torch.cat([z[nodes], code.expand(len(nodes), -1)], 1)
        made = self.last(F.gelu(self.hidden(given)))  # (blocks, numbers of the widest adapter)
        r, most = self.rank, self.widest
        parts = []
        for row, (_, w) in zip(made, graph.blocks, strict=True):
            down, down_bias, up, up_bias = row.split([r * most, r, most * r, most])
            parts += [
                down.view(r, most)[:, :w].reshape(-1),
                down_bias,
                up.view(most, r)[:w].reshape(-1),
                up_bias[:w],
            ]
        return torch.cat(parts)
