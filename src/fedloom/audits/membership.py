"""Membership inference: was this sample among the client's training samples? By loss, and by likelihood ratio."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedloom.audits.observed import HOW, Observed, observed
from fedloom.audits.shadows import halves, matched, shadow_exchanges
from fedloom.audits.subject import AuditedRun, Say
from fedloom.data.canaries import joined
from fedloom.privacy.membership import likelihood_ratio, told_by
from fedloom.seeding import numpy_stream

LEAST = 10  # members, and others, below which there is nothing to say
NOTHING = "nothing crosses that gives a private sample a loss: neither parameters nor labels of shared samples"


def membership(run: AuditedRun, client: str, shadows: int, most: int, seed: int, say: Say) -> dict[str, Any]:
    """The figures of both attacks on a client; `skipped` says why one cannot be.

    Members are of the client's own training samples, others of the test part, as many of each class. A shadow is
    trained on a random half of these together (Carlini et al.'s online attack): it is the client's own code, with other
    random draws, sent what the client was sent; so what the ratio is trained on are candidates, no samples besides.
    """
    exchanges = [kept.read(run.contract) for kept in run.exchanges.get(client, ())]
    seen = observed(run, client, exchanges, seed)
    if seen is None:
        return {"skipped": NOTHING}
    rng = numpy_stream(seed, "audit", client, "membership")
    members, others = matched(run.truth(client).held, run.strangers(client), rng, most)
    if len(members) < LEAST:
        return {"skipped": f"{len(members)} training samples have test samples of their class; at least {LEAST} needed"}
    pool = joined(members, others)
    inside = np.arange(len(pool)) < len(members)
    found: dict[str, Any] = {"from": HOW[seen.how], "models": len(seen.models)}
    found["loss"] = told_by(-seen.losses(pool), inside, rng).tree()
    if not shadows:
        return found
    if seen.how == "mean":
        return {**found, "ratio": {"skipped": "no client's own model is seen, so there is no shadow of it"}}
    drawn = halves(len(pool), shadows, rng)
    phi = np.zeros(drawn.shape)
    for s, own in enumerate(drawn):
        say(f"{client}: shadow {s + 1} of {shadows}")
        replies = shadow_exchanges(run, client, pool.subset(np.flatnonzero(own)), seed, s)
        shadow = observed(run, client, replies, seed + 1 + s)
        assert isinstance(shadow, Observed)
        phi[s] = shadow.phi(pool)
    found["ratio"] = told_by(likelihood_ratio(seen.phi(pool), phi, drawn), inside, rng).tree()
    return {**found, "shadows": shadows}
