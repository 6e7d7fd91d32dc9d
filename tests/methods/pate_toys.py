"""Toy federations by PATE's votes, and what is heard in them."""

from __future__ import annotations

import numpy as np
from toy_sites import CLASSES, CLIENTS, SAMPLES, Toy

MANY = {f"{kind}-{i}": kind for kind in ("image", "text") for i in range(4)}


def pate(folder, clients=CLIENTS, secure=False, **settings):
    return Toy(
        folder, "fedmmkt-pate", clients=clients, secure=secure, **({"sigma_1": None} if secure else {}), **settings
    )


def heard(toy, verb):
    """The replies to a verb, as they come from now on: client -> message."""
    seen, ask = {}, toy.federation.ask

    def listen(said, messages, **how):
        for reply in ask(said, messages, **how):
            if said == verb and reply.ok:
                seen[reply.client] = reply.message
            yield reply

    toy.federation.ask = listen
    return seen


def counts_of(votes):
    rows = np.zeros((SAMPLES, CLASSES))
    for message in votes.values():
        rows[np.arange(SAMPLES), message.labels] += 1
    return rows
