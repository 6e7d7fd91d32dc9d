"""Shadow clients: the client's own code on other samples, sent what the client was really sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.audits.subject import AuditedRun, Labelled
from fedloom.experiment.client_builder import features_shared
from fedloom.experiment.private import privacy_plan
from fedloom.federation.kept import Exchange
from fedloom.methods.context import ClientContext
from fedloom.seeding import stream_seed


def halves(n: int, shadows: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of n samples each shadow is trained on, bool (S, n): a half each, and each sample is in half of them."""
    inside = np.zeros((shadows, n), dtype=np.bool_)
    for s in range(0, shadows, 2):
        inside[s, rng.permutation(n)[: n // 2]] = True
        inside[s + 1] = ~inside[s]
    return inside


def shadow_exchanges(run: AuditedRun, client: str, samples: Labelled, seed: int, number: int) -> list[Exchange]:
    """What a client like `client`, with these samples and random draws of its own, answers to the same requests.

    It is warm-started as clients are, and private where they are.
    """
    config, own = run.config, stream_seed(seed, client, "shadow", number)
    builder = run.builder(client, own)
    plan = privacy_plan(config, run.method, run.settings)

    def warm(context: ClientContext) -> None:
        context.train_private(config.clients.warm_steps, 0, "warm")

    shadow: Any = builder.client(
        config.method,
        config.settings,
        warm,
        samples,
        run.strangers(client).subset([0]),
        **config.clients.training(client),
        **config.clients.arithmetic(),
        shared=features_shared,
        **({"privacy": plan} if plan is not None else {}),
    )
    found = []
    for kept in run.exchanges[client]:
        asked = kept.read(run.contract)
        reply = getattr(shadow, asked.verb)(asked.request, round=asked.round)
        found.append(Exchange(asked.round, asked.verb, asked.request, reply if kept.up is not None else None))
    return found


def matched(held: Labelled, strangers: Labelled, rng: np.random.Generator, most: int) -> tuple[Labelled, Labelled]:
    """Members and others, as many of each class of either: else an attack would tell classes apart, not samples.

    most: of members at most, and so of others.
    """
    ours: list[int] = []
    theirs: list[int] = []
    for c in np.union1d(held.labels, strangers.labels):
        a, b = np.flatnonzero(held.labels == c), np.flatnonzero(strangers.labels == c)
        n = min(len(a), len(b))
        ours += rng.permutation(a)[:n].tolist()
        theirs += rng.permutation(b)[:n].tolist()
    pick = rng.permutation(len(ours))[:most]
    return held.subset(np.asarray(ours)[pick] if ours else []), strangers.subset(
        np.asarray(theirs)[pick] if theirs else []
    )
