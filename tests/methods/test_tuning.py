"""The replay pool, and the texts that lie in it."""

from __future__ import annotations

import pytest
import torch

from fedloom.errors import BadInput
from fedloom.methods.base import load_method
from fedloom.methods.tuning import ReplayPool


def part(n, *keys):
    return {key: torch.arange(n) for key in keys}


def test_pool_keeps_the_last_rounds():
    pool = ReplayPool(2)
    assert pool.samples() == {}
    for n in (3, 4, 5):
        pool.add(part(n, "labels"))
    assert pool.samples()["labels"].tolist() == [*range(4), *range(5)]
    pool.add(part(0, "labels"))  # a round that kept nothing pushes an old one out all the same
    assert pool.samples()["labels"].tolist() == list(range(5))


def test_pool_leaves_out_what_a_round_lacks():
    pool = ReplayPool(3)
    pool.add(part(2, "labels", "fused"))
    pool.add(part(3, "labels"))
    assert set(pool.samples()) == {"labels"}
    pool.add(part(0, "labels"))
    assert set(pool.samples()) == {"labels"}


def test_pool_taken_up_again():
    pool, again = ReplayPool(3), ReplayPool(3)
    for n in (2, 0, 3):
        pool.add(part(n, "labels", "fused"))
    again.load_state(*pool.state())
    assert [{k: v.tolist() for k, v in p.items()} for p in again.parts] == [
        {k: v.tolist() for k, v in p.items()} for p in pool.parts
    ]


def test_unknown_method():
    with pytest.raises(BadInput, match="Did you mean 'standalone'"):
        load_method("standalon")
