"""Federations without a server: each peer puts together what its neighbours send, by the method's own server half.

A round on a graph of peers is that of decentralised SGD with local steps (Lian et al. 2017, arXiv 1705.09056; Koloskova
et al. 2020, arXiv 2003.10422): private steps, then x_k <- sum over m of W_km x_m with the weights of
`functional.gossip.metropolis`. Answers about shared samples and prototypes are put together with the same weights.

Ours: the weights are those of the peers that are there and have answered, with neighbours that have something to
average; so whoever is away keeps what it has, and the mean over the others stays what it was. Numbers of samples have
no say: with them the weights would not be doubly stochastic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedloom.federation.base import Federation
from fedloom.federation.edges import deliver
from fedloom.methods.base import Info, Method, Server, ServerContext
from fedloom.methods.graph import PeerGraph
from fedloom.methods.replies import ClientOutputs, Clock
from fedloom.methods.state import Kept


class GossipServer(Server):
    """Every peer's own server half; a round of them is what the method declares."""

    halves: Kept[dict[str, Server]]  # by peer

    def __init__(self, context: ServerContext, settings: Any, method: Method, graph: PeerGraph) -> None:
        super().__init__(context, settings)
        assert method.peers is not None
        assert method.peers.round is not None
        self._round, self._graph = method.peers.round, graph
        self.halves = {peer: method.server(context, settings) for peer in graph.near}

    def round(self, federation: Federation) -> Info:
        """The method's round of peers."""
        info: Info = self._round(self.halves, federation, self._graph)
        return info

    def told(self) -> dict[str, float | str | None]:
        """What of the peers themselves a row of the run has."""
        return {"consensus_distance": consensus_distance(list(self.halves.values()))}


def averages(halves: Mapping[str, Any], federation: Federation, graph: PeerGraph) -> Info:
    """A round of methods whose clients send what is averaged once they have trained (verb `fit`), FedAvg's."""
    peers, context = federation.clients, next(iter(halves.values())).context
    messages = {k: halves[k].message(k, federation.modality(k)) for k in peers}
    with federation.held() as sent:
        replies = list(federation.ask("fit", messages, timeout=context.timeout, quorum=context.quorum))
    updates = {r.client: r.message for r in replies if r.ok and r.message.samples > 0}
    kinds = {k: halves[k].members.get(k) for k in peers}
    kinds |= {k: halves[k].kind(federation.modality(k), update) for k, update in updates.items()}

    def meet(a: str, b: str) -> bool:
        return None in (kinds[a], kinds[b]) or kinds[a] == kinds[b]

    here = graph.among(peers).where(meet)  # other architectures have nothing to average
    deliver(federation.ledger, sent, here.near)
    told = []
    for k, weights in here.among(updates).weights().items():
        halves[k].say = weights
        told.append(halves[k].taken(federation, {n: updates[n] for n in weights}))
    losses = [updates[k].loss for k in sorted(updates)]
    return Info(losses={"clients": float(np.mean(losses)) if losses else None}, facts=mean_facts(told))


def answers(halves: Mapping[str, Any], federation: Federation, graph: PeerGraph) -> Info:
    """A round of methods whose clients answer about a public set and learn what is made of it, FedMD's.

    Who holds the set already is known to the first peer's half, for all of them.
    """
    t, clock, first = federation.round, Clock(), next(iter(halves.values()))
    samples, peers = first.draw(t, federation), federation.clients
    new = set(peers) - first.holders
    with clock("inference"), federation.held() as sent:
        replies = first.question(federation, samples, {})
    here = graph.among(peers)
    deliver(federation.ledger, sent, here.near, new)
    targets: dict[str, Any] = {}
    told = []
    with clock("fusion"):
        for k, weights in here.among([r.client for r in replies]).weights().items():
            heard = [r for r in replies if r.client in weights]
            outputs = ClientOutputs(heard, len(samples), len(first.context.class_names), first.context.width)
            halves[k].say = weights
            found, _ = halves[k].sound(t, federation, samples, outputs)
            told.append(Info(facts=found.facts))
            targets |= {name: found.targets[name] for name in (k,) if name in found.targets}
    with clock("retraining"), federation.held():  # what a peer tells itself crosses nothing
        learning = list(federation.ask(first.learn_verb, targets, timeout=first.context.timeout) if targets else ())
    losses = [r.message.loss for r in sorted(learning, key=lambda r: r.client) if r.ok]
    mean = float(np.mean(losses)) if losses else None
    return Info(losses={"clients": mean}, seconds=clock.seconds, facts=mean_facts(told))


def mean_facts(told: Sequence[Info]) -> dict[str, float | None]:
    """The mean over peers of each of their facts."""
    found: dict[str, list[float]] = {}
    for info in told:
        for name, value in info.facts.items():
            found.setdefault(name, []).extend([] if value is None else [value])
    return {name: float(np.mean(values)) if values else None for name, values in found.items()}


def consensus_distance(halves: Sequence[Any]) -> float | None:
    """How far peers' averages are from their mean: sqrt(mean over k of |x_k - x|^2).

    As in Kong et al. 2021 (arXiv 2102.04828); each architecture's from its own mean. None where peers average no
    parameters.
    """
    held: dict[str, list[Mapping[str, Any]]] = {}
    for half in halves:
        for kind, parameters in getattr(half, "groups", {}).items():
            if parameters:
                held.setdefault(kind, []).append(parameters)
    squares = 0.0
    for group in held.values():
        for name in {name for each in group for name in each}:
            rows = np.stack([each[name].astype(np.float64) for each in group if name in each])
            squares += float(np.square(rows - rows.mean(0)).sum())
    return float(np.sqrt(squares / sum(map(len, held.values())))) if held else None


# ----------------------------------------------------------------------------------------- what settings need a server


def plain_average(settings: Any) -> str:
    """What of FedAvg's settings needs a server."""
    if settings.secure:
        return "settings.secure = true: secure sums are unmasked by a server; allowed: false"
    if settings.share < 1:
        return f"settings.share = {settings.share}: a server draws who takes part; allowed: 1 (or participation.share)"
    return _nobody_left_out(settings)


def public_samples(settings: Any) -> str:
    """What of the settings of methods on shared samples needs a server."""
    if not settings.public_pairs:
        return f"settings.shared = {settings.shared}: one draws them for all; allowed: public, or topology.host = moves"
    if settings.catch_up:
        return "settings.catch_up = true: a server keeps the lessons; allowed: false"
    return _nobody_left_out(settings)


def _nobody_left_out(settings: Any) -> str:
    if settings.leave_out_after is None:
        return ""
    return f"settings.leave_out_after = {settings.leave_out_after}: a server compares all clients; allowed: null"
