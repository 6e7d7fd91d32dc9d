"""What peers are to one another: their graph, and what a method declares of how it does without a server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedloom.functional.gossip import metropolis


@dataclass(frozen=True)
class PeerGraph:
    """peer -> its neighbours, in the order of the peers; who hears whom, both ways."""

    near: Mapping[str, Sequence[str]]

    def where(self, meet: Callable[[str, str], bool]) -> PeerGraph:
        """With those edges alone whose ends meet."""
        return PeerGraph({k: tuple(n for n in near if meet(k, n)) for k, near in self.near.items()})

    def among(self, peers: Collection[str]) -> PeerGraph:
        """Of some peers alone."""
        there = set(peers)
        return PeerGraph({k: tuple(n for n in near if n in there) for k, near in self.near.items() if k in there})

    def weights(self) -> dict[str, dict[str, float]]:
        """peer -> what say itself and each neighbour has (`metropolis`). On a part of a graph they add up to 1 too."""
        names = list(self.near)
        edges = np.array([[n in self.near[k] for n in names] for k in names], dtype=np.bool_).reshape(len(names), -1)
        found = metropolis(edges)
        return {
            k: {n: float(found[i, j]) for j, n in enumerate(names) if n == k or edges[i, j]}
            for i, k in enumerate(names)
        }


def never(settings: Any) -> str:
    """No setting needs a server."""
    return ""


@dataclass(frozen=True)
class Peers:
    """How a method does without a server.

    server: the server half that this was declared for; another one, derived from it, has to declare its own.
    round: a round in which each peer has such a half of its own, as `methods.gossip` has them, of the halves by peer,
    the federation and the graph, to an Info; None: there is none.
    moves: whether the half can go from peer to peer: whatever it has learned is its declared state.
    refuses: of settings, which of them needs a server, in words; "": none. For `round` alone.
    """

    server: type
    round: Callable[[Mapping[str, Any], Any, PeerGraph], Any] | None = None
    moves: bool = False
    refuses: Callable[[Any], str] = never
