"""What changed of a model, in half precision; sender and receiver agree to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

from fedloom.methods.delivery import Delivery, Delta, applied, put_into, received, weights_of


def walk(steps: int = 6, scale: float = 1e-3):
    """Weights of a model from version to version."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(20, 10)).astype(np.float32), "b": np.ones(7, np.float32)}
    for _ in range(steps):
        yield {k: v.copy() for k, v in weights.items()}
        weights = {
            k: (v + scale * rng.normal(size=v.shape)).astype(np.float32) if k == "a" else v for k, v in weights.items()
        }


def equal(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def size(arrays):
    return sum(v.nbytes for v in arrays.values())


@pytest.mark.parametrize(("sending", "share"), [("whole", 1.0), ("changes", 1.0), ("changes", 0.3), ("changes", 0.05)])
def test_sender_and_receivers_agree_to_the_bit(sending, share):
    """One receiver is there each time, one every third time."""
    delivery = Delivery(sending, share)
    always, seldom = ({}, 0), ({}, 0)
    for t, weights in enumerate(walk()):
        delivery.advance(weights)
        parcel = delivery.parcel(always[1])
        always = received(*always, parcel), parcel.version
        assert equal(always[0], delivery.held)
        assert parcel.version == delivery.version == t + 1
        if t % 3 == 2:
            parcel = delivery.parcel(seldom[1])
            seldom = received(*seldom, parcel), parcel.version
            assert parcel.base == 0
            assert equal(seldom[0], delivery.held)
        assert all(v.dtype == np.float32 and v.flags.writeable for v in always[0].values())


def test_rounding_does_not_add_up():
    """What half precision leaves out of one change is in the next: the error stays that of the last change."""
    delivery = Delivery()
    for weights in walk(200, 1e-3):
        delivery.advance(weights)
    off = np.abs(delivery.held["a"] - weights["a"]).max()
    assert off < 1e-3 * 2**-8  # of a change within about five thousandths
    assert np.array_equal(delivery.held["b"], weights["b"])


def test_a_share_is_made_up_for_when_the_model_rests():
    delivery = Delivery("changes", 0.1)
    *_, last = walk(4, 1e-2)
    for weights in [*walk(4, 1e-2), *[last] * 60]:
        delivery.advance(weights)
    assert np.abs(delivery.held["a"] - last["a"]).max() < 1e-5
    assert delivery.change == {}
    assert delivery.parcel(delivery.version - 1) == Delta({}, delivery.version - 1, delivery.version)


def test_what_moved_furthest_is_sent():
    delivery = Delivery("changes", 0.1)
    weights = {"a": np.zeros((4, 5), np.float32)}
    delivery.advance(weights)
    moved = np.zeros((4, 5), np.float32)
    moved[0, 1], moved[2, 3], moved[3, 3] = 0.5, -2.0, 1.0
    delivery.advance({"a": moved})
    parcel = delivery.parcel(1)
    assert parcel.arrays["a"].tolist() == [-2.0, 1.0]
    assert parcel.arrays["a@"].tolist() == [13, 18]
    assert [v.dtype.name for v in parcel.arrays.values()] == ["float16", "int32"]


def test_bytes():
    """Half of single precision; a share of 1/10 takes 6 bytes a value; what rests takes nothing."""
    whole, half, tenth, third = (Delivery(*a) for a in (("whole",), ("changes",), ("changes", 0.1), ("changes", 0.34)))
    first, second = list(walk(2))
    for d in (whole, half, tenth, third):
        d.advance(first)
    assert [size(d.parcel(0).arrays) for d in (whole, half)] == [4 * 207, 2 * 207]
    for d in (whole, half, tenth, third):
        d.advance(second)
    sizes = [size(d.parcel(1).arrays) for d in (whole, half, tenth, third)]
    assert sizes == [4 * 207, 2 * 200, 6 * 20, 2 * 200]  # a third with places costs as much as all without
    assert size(half.parcel(0).arrays) == 4 * 207


def test_state_across_a_crash():
    one, two = Delivery("changes", 0.2), Delivery("changes", 0.2)
    versions = list(walk(4))
    two.load_state(load(save(one.state()[0])), one.state()[1])
    assert (two.version, two.held) == (0, {})
    for weights in versions[:2]:
        one.advance(weights)
    two.load_state(load(save(one.state()[0])), one.state()[1])
    for weights in versions[2:]:
        one.advance(weights)
        two.advance(weights)
        for has in (0, one.version - 1):
            a, b = one.parcel(has), two.parcel(has)
            assert (a.base, a.version) == (b.base, b.version)
            assert equal(a.arrays, b.arrays)


def test_single_numbers_stay_arrays():
    """A scale or a temperature: NumPy makes a difference of two of them no array, which could not be sent."""
    delivery = Delivery()
    held = {}
    for n, value in enumerate((1.0, 1.5)):
        delivery.advance({"scale": np.array(value, np.float32)})
        parcel = delivery.parcel(n)
        held = received(held, n, parcel)
        assert all(isinstance(v, np.ndarray) for part in (parcel.arrays, held, delivery.held) for v in part.values())
    assert held["scale"] == 1.5


def test_a_change_for_somebody_else_is_refused():
    held = {"a": np.zeros((2, 2), np.float32)}
    with pytest.raises(ValueError, match="a change of version 3, and holds version 2"):
        received(held, 2, Delta({}, 3, 4))
    for change in ({"b": np.zeros(1, np.float16)}, {"a": np.zeros(2, np.float16)}):
        with pytest.raises(ValueError, match="not what is held"):
            applied(held, change)
    before = held["a"].copy()
    applied(held, {"a": np.ones(1, np.float16), "a@": np.array([3], np.int32)})
    assert np.array_equal(held["a"], before)


class Encoder(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2)


def test_a_models_weights_and_statistics_without_its_head_and_counters():
    torch.manual_seed(0)
    one, two = Encoder(), Encoder()
    one.norm(torch.randn(5, 3))
    weights = weights_of(one)
    assert set(weights) == {
        *("body.weight", "body.bias", "norm.weight", "norm.bias"),
        *("norm.running_mean", "norm.running_var"),
    }
    kept = two.head.weight.clone()
    put_into(two, weights)
    assert equal(weights_of(two), weights)
    assert torch.equal(two.head.weight, kept)
    with torch.no_grad():
        one.body.weight.zero_()
    assert weights["body.weight"].any()
    assert two.body.weight.any()
    for wrong in (weights_of(Encoder(2)), {k: v for k, v in weights.items() if k != "norm.bias"}):
        with pytest.raises(ValueError, match="another architecture"):
            put_into(two, wrong)
