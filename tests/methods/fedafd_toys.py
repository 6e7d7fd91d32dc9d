"""FedAFD on toy clients: one of each kind, and their parts as arrays."""

from __future__ import annotations

import pytest
from toy_sites import ONE_EACH, Toy

from fedloom.models.fit import state_arrays

CLIENT_TASKS = [pytest.param(name, id=modality) for name, modality in ONE_EACH.items()]


def toy_of(**settings):
    return Toy(None, "fedafd", clients=ONE_EACH, **settings)


def taught(name, **settings):
    """A client after a round, and the bank of the server it learned from."""
    toy = toy_of(**settings)
    toy.run(1)
    return toy.half(name), toy.server.bank()


def weights(half):
    """The encoder, without optimiser."""
    return state_arrays(half.context.model)


def adversaries(half):
    return state_arrays(half.inner, "inner.") | state_arrays(half.cross, "cross.")
