"""How many steps a round a client takes on private samples, of the methods in which nothing else is made of them.

What `Method.private_steps` counts by. A setting by which more is told is refused.
"""

from __future__ import annotations

from typing import Any

from fedloom.errors import BadInput


def of_shared(settings: Any, batch: int) -> int:
    """Of methods that learn from shared samples first, from private ones then."""
    return int(settings.private_steps)


def beside_shared(settings: Any, batch: int) -> int:
    """Of methods whose steps on shared samples have a private batch beside."""
    pool = settings.public_pairs or settings.samples * settings.replay_rounds
    return int(settings.private_steps + settings.steps_on(pool, settings.retrain_steps, batch))


def of_creamfl(settings: Any, batch: int) -> int:
    """As `together` says."""
    return (beside_shared if settings.together else of_shared)(settings, batch)


def of_fedmmkt(settings: Any, batch: int) -> int:
    """Of all variants. BadInput where clients tell which classes they hold."""
    if settings.quorum_of == "knowing":
        raise BadInput(
            "settings.quorum_of = 'knowing': clients tell which classes they hold, which clients.privacy does not "
            "cover; allowed: 'all'"
        )
    return beside_shared(settings, batch) - int(settings.private_steps) if settings.mix else of_shared(settings, batch)


def alone(settings: Any, batch: int) -> int:
    """Of methods with private steps only."""
    return int(settings.private_steps + settings.extra_steps)


def of_fedavg(settings: Any, batch: int) -> int:
    """As `alone`. BadInput with a distance to the average: it is of no single sample."""
    if settings.mu:
        raise BadInput(f"settings.mu = {settings.mu}: not a part of single samples' losses; with clients.privacy: 0")
    return alone(settings, batch)
