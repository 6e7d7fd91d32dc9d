"""One-run auditing: guesses which canaries each client trained on, and the epsilon that they rule out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fedloom.audits.observed import HOW, observed
from fedloom.audits.subject import AuditedRun, Say
from fedloom.privacy.one_run import guess

NOTHING = "nothing crosses that gives a canary a loss"


def canary_audit(run: AuditedRun, clients: Sequence[str], seed: int, say: Say) -> dict[str, Any]:
    """The lower bound of epsilon at 95 %, from the canaries of these clients together; beside what is stated."""
    if run.config.data.canaries is None:
        return {"skipped": "the run has no canaries: --set data.canaries.count=50 plants some"}
    scores, inside, how = [], [], ""
    for client in clients:
        say(f"{client}: canaries")
        truth = run.truth(client)
        exchanges = (kept.read(run.contract) for kept in run.exchanges.get(client, ()))
        seen = observed(run, client, exchanges, seed)
        if seen is None or truth.canaries is None:
            continue
        how = HOW[seen.how]
        scores.append(seen.phi(truth.canaries))
        inside.append(truth.inside)
    if not scores:
        return {"skipped": NOTHING}
    privacy = run.config.clients.privacy
    stated = privacy.epsilon if privacy is not None else None
    return {"from": how, **asdict(guess(scores, inside, run.delta())), "stated": stated}
