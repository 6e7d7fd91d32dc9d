"""Runs without one server: the graph of their peers, the server halves on it, and what a row says of the peers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedloom.config import Config
from fedloom.config.topology import TopologySettings
from fedloom.errors import BadInput
from fedloom.experiment.checks import own_data
from fedloom.functional import gossip
from fedloom.methods.base import Method, Server, ServerContext, load_method
from fedloom.methods.gossip import GossipServer
from fedloom.methods.graph import PeerGraph, Peers
from fedloom.methods.moving_host import MovingServer
from fedloom.registry import METHODS
from fedloom.seeding import numpy_stream


def graph_of(settings: TopologySettings, names: Sequence[str]) -> PeerGraph:
    """The graph of these peers.

    Raises:
        BadInput: there is none of that degree.
    """
    n, degree = len(names), settings.degree
    if n < 2:
        raise BadInput(f"topology.kind = {settings.kind}: there is {n} client, allowed: 2 or more")
    if degree is None:
        edges = {"ring": gossip.ring, "complete": gossip.complete}[settings.kind](n)
    elif degree >= n or degree * n % 2:
        step = 1 if n % 2 == 0 else 2
        allowed = list(range(2, n, step))
        said = f"{', '.join(map(str, allowed[:8]))}{', ...' if len(allowed) > 8 else ''}" or "none"
        raise BadInput(f"topology.degree = {degree}: in a graph of {n} clients allowed: {said}")
    else:
        edges = gossip.regular(n, degree, numpy_stream(settings.seed, "topology", n, degree))
    return PeerGraph(
        {name: tuple(other for j, other in enumerate(names) if edges[i, j]) for i, name in enumerate(names)}
    )


def graph_topology(config: Config) -> TopologySettings | None:
    """The topology where it has no server; None of a star."""
    t = config.topology
    return None if t is None or t.kind == "star" else t


def declared(method: Method) -> Peers | None:
    """How the method's server half does without a server, where that was declared for this half."""
    return method.peers if method.peers is not None and method.peers.server is method.server else None


def check_topology(config: Config, method: Method, settings: Any) -> None:
    """Raises BadInput where the run cannot do without a server, or has no such graph."""
    if (t := graph_topology(config)) is None:
        return
    if own_data(config):
        raise BadInput(f"topology.kind = {t.kind}: silos of a deployment reach their server alone; allowed: star")
    if config.engine.keep_messages:
        raise BadInput(
            f"engine.keep_messages = true with topology.kind = {t.kind}: `fedloom audit` attacks as a server; "
            "allowed: false"
        )
    at, peers = f"topology.kind = {t.kind}: {config.method} needs a server", declared(method)
    if peers is None:
        others = ", ".join(name for name in METHODS.usable() if declared(load_method(name)[0]))
        raise BadInput(f"{at}, {method.needs_server}; allowed: star. Methods that do without: {others}")
    if t.host and not peers.moves:
        raise BadInput(f"topology.host = moves: {config.method} has no server half that could move; allowed: null")
    if not t.host and peers.round is None:
        raise BadInput(f"{at} half, which holds its generator; allowed: star, or topology.host = moves")
    if not t.host and (reason := peers.refuses(settings)):
        raise BadInput(f"topology.kind = {t.kind}: {reason}")
    graph_of(t, list(config.clients.everyone()))


def server_of(config: Config, method: Method, tools: ServerContext, settings: Any) -> Server:
    """The method's server half, or what stands in its place where there is no one server."""
    if (t := graph_topology(config)) is None:
        return method.server(tools, settings)
    graph = graph_of(t, list(config.clients.everyone()))
    kind = MovingServer if t.host else GossipServer
    return kind(tools, settings, method, graph)


def peer_figures(config: Config, names: Mapping[Any, Sequence[str]], row: Mapping[str, Any], server: Server) -> Any:
    """`peers` of a row, where a topology is set: lowest and highest score of each task, and what the halves say.

    names: clients by task.
    """
    if config.topology is None:
        return {}
    found: dict[str, float | str | None] = {}
    for task, clients in names.items():
        if clients:
            found |= _spread(str(task), (row["per_client"][k] for k in clients if k in row["per_client"]))
    return {"peers": found | (server.told() if isinstance(server, GossipServer | MovingServer) else {})}


def _spread(task: str, scores: Iterable[float]) -> dict[str, float | str | None]:
    held = sorted(scores)
    return {f"{task}_lowest": held[0] if held else None, f"{task}_highest": held[-1] if held else None}


def peer_ends(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """`peers` of the summary: each figure before and after; names of hosts are none."""
    before, after = first.get("peers") or {}, last.get("peers") or {}
    ends = {key: {"before": before.get(key), "after": v} for key, v in after.items() if not isinstance(v, str)}
    return {"peers": ends} if ends else {}
