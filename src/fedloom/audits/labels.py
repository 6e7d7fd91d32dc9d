"""Label inference: how many samples of each class does a client have?

counts       a client tells them (FedProto)
parameters   mean probability of each class that the client's last model gives the public part's samples
answers      the same of its answers about shared samples: scores, else labels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.audits.observed import observed, shared_answers
from fedloom.audits.subject import AuditedRun
from fedloom.federation.kept import Exchange

Shares = NDArray[np.float64]
NOTHING = "nothing crosses that tells classes apart: neither counts, nor parameters, nor answers"


def label_inference(run: AuditedRun, client: str, seed: int) -> dict[str, Any]:
    """The estimate, the truth, the L1 distance of the two (0 to 2) and their correlation; beside an even guess."""
    C = len(run.scene.names_of(run.clients[client]))
    exchanges = [kept.read(run.contract) for kept in run.exchanges.get(client, ())]
    how, estimate = _estimate(run, client, exchanges, C, seed)
    if estimate is None:
        return {"skipped": how}
    truth = np.bincount(run.truth(client).trained_on(), minlength=C).astype(float)
    truth /= truth.sum()
    varied = estimate.std() > 0 and truth.std() > 0
    return {
        "from": how,
        "l1": float(np.abs(estimate - truth).sum()),
        "l1_even": float(np.abs(1 / C - truth).sum()),
        "correlation": float(np.corrcoef(estimate, truth)[0, 1]) if varied else None,
        "estimate": estimate.tolist(),
        "truth": truth.tolist(),
    }


def _estimate(
    run: AuditedRun, client: str, exchanges: Sequence[Exchange], classes: int, seed: int
) -> tuple[str, Shares | None]:
    """Shares of the classes (C,), and what they are of; or why there are none."""
    told = [e.reply for e in exchanges if getattr(e.reply, "counts", None)]
    if told:
        counts = np.zeros(classes)
        for kind, numbers in told[-1].counts.items():
            np.add.at(counts, told[-1].classes[kind], numbers)
        return "the counts that it sends beside its prototypes", counts / counts.sum()
    seen = None if shared_answers(exchanges) is not None else observed(run, client, exchanges, seed)
    public = run.public(client)
    if seen is not None and public is not None:
        p = seen.models[-1](public).softmax(1).mean(0).double().numpy()
        return "what its parameters say of the public part" if seen.how == "parameters" else "mean parameters", p
    answers = shared_answers(exchanges)
    if answers is None or answers.labels is None or not len(answers.labels):
        return NOTHING, None
    if answers.logits is None:
        return "the labels that it gives", np.bincount(answers.labels, minlength=classes) / len(answers.labels)
    scores = np.exp(answers.logits - answers.logits.max(1, keepdims=True)).astype(np.float64)
    return "the scores that it gives", (scores / scores.sum(1, keepdims=True)).mean(0)
