"""What a run with `clients.privacy` plans, and what it may not be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from fedloom.config import Config
from fedloom.config.privacy import PrivacyPlan, plan_of
from fedloom.errors import BadInput
from fedloom.federation.engines.silo.gate import BEYOND
from fedloom.federation.messages import BoundBreach
from fedloom.methods.base import Method, load_method
from fedloom.privacy.accounting import check_installed, spent, usual_delta
from fedloom.privacy.book import read_book, spent_elsewhere
from fedloom.registry import METHODS
from fedloom.tasks import SINGLE_MODALITY, ClientTask

ROWS = ("representations", "augmented", "logits")


def privacy_plan(config: Config, method: Method, settings: Any) -> PrivacyPlan | None:
    """What each client of the run is to do under its budget; None where clients are not private."""
    s, clients = config.clients.privacy, config.clients
    if s is None or not method.tasks:
        return None
    check_privacy(config, method, settings)
    assert method.private_work is not None
    steps = clients.warm_steps + config.rounds * method.private_work(settings, clients.batch)
    if s.answers is None:
        return plan_of(s, steps=steps)
    work = method.server.workload(settings, clients.batch)
    again = int(work is not None and work.checked > 0)  # asked once more a round, and once before the first
    fields = {f.name for f in dataclasses.fields(method.verbs(settings)["infer"][1])}
    rows = sum(name in fields for name in ROWS)
    answered = config.rounds * (1 + again) + again
    return plan_of(s, steps=steps, answered=answered, labels=int("labels" in fields), rows=rows)


def check_whole(method: Method, settings: Any, batch: int) -> None:
    """Raises BadInput where clients of the method, with these settings, tell what no private step makes.

    And where there is no opacus.
    """
    check_installed("clients.privacy")
    if method.private_work is None:
        whole = [m for m in METHODS.usable() if load_method(m)[0].private_work is not None]
        raise BadInput(
            f"clients.privacy: clients of {method.name} use private samples otherwise than in private steps; "
            f"allowed: {', '.join(whole)}"
        )
    method.private_work(settings, batch)


def check_privacy(config: Config, method: Method, settings: Any) -> None:
    """Raises BadInput where clients cannot be private: by method, tasks, arithmetic, or what is not installed."""
    clients = config.clients
    if clients.privacy is None or not method.tasks:
        return
    check_whole(method, settings, clients.batch)
    for task in (t for t in ClientTask if t not in SINGLE_MODALITY and clients.names(t)):
        raise BadInput(f"clients.privacy: there are no private steps for clients.{task}; allowed: image, text")
    if clients.precision == "fp16":
        raise BadInput("clients.precision = 'fp16': scales losses of whole batches; with clients.privacy: fp32, bf16")
    if clients.checkpointing:
        raise BadInput(
            "clients.checkpointing = True: gives no gradients of single samples; with clients.privacy: False"
        )
    if clients.privacy.answers is not None and "infer" not in method.verbs(settings):
        raise BadInput(
            f"clients.privacy.answers: clients of {config.method} answer nothing about shared samples; allowed: null"
        )


def check_grant(most: float, plan: PrivacyPlan | None, book: Path, private: Any) -> None:
    """Raises BoundBreach where a run asks for more epsilon than a silo has left of `most`, over all runs of all time.

    While one run is at work no other is, so that what is spent never passes `most`: what all others have spent, and
    what this one may still spend. A delta beyond the usual one would make any epsilon small.

    Args:
        book: what the silo has spent in this run; those of others lie beside it (`privacy.book`).
        private: the silo's training samples.
    """
    if plan is None or plan.epsilon is None:
        raise BoundBreach(f"{BEYOND}the run has no epsilon for private steps; bounds.epsilon = {most:g}")
    usual = usual_delta(len(private.labels))
    delta = plan.delta or usual
    if delta > usual:
        raise BoundBreach(
            f"{BEYOND}the run's delta is {delta:g}, allowed: {usual:g} or less; bounds.epsilon = {most:g}"
        )
    before, own = spent_elsewhere(book, delta), spent(read_book(book)[0], delta)
    if before + max(own, plan.epsilon) > most:
        raise BoundBreach(
            f"{BEYOND}earlier runs have spent epsilon = {before:.3g}, and this one asks for {plan.epsilon:g}; "
            f"bounds.epsilon = {most:g}"
        )
