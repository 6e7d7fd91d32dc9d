"""What tests of the methods on representations of public pairs share: clients, and what is heard and sent."""

from __future__ import annotations

import dataclasses

from toy_sites import ONE_EACH, PAIRED, Toy

TALKING = [m for m in PAIRED if m != "r-standalone"]
TWO_EACH = {f"{m}-{i}": m for m in ("image", "text", "pair") for i in range(2)}
AFD = "fedafd"


def both(toy):
    return {"server": toy.server.state()[0], **toy.clients()}


def listen(toy):
    """What the server hears: kind -> (z, present) of the last round."""
    heard = {}
    ensemble = toy.server.ensemble

    def hear(m, z, present, bank):
        heard[m] = (z.clone(), present.clone())
        return ensemble(m, z, present, bank)

    toy.server.ensemble = hear
    return heard


def altered(toy, name, **changes):
    """Has a client send something else."""
    half = toy.half(name)
    learn = half.learn

    def other(message, *, round):
        said = learn(message, round=round)
        found = {k: change(getattr(said, k)) for k, change in changes.items()}
        return dataclasses.replace(said, **found)

    half.learn = other


def server(method, **settings):
    return Toy(None, method, clients=ONE_EACH, **settings).server
