"""Standalone clients, self-tuned generators, and the centralised bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, SAMPLES, WIDTH, Toy, private_of, same

from fedloom.errors import BadInput
from fedloom.federation.nobody import Nobody
from fedloom.methods.base import load_method


def server_alone(folder, method, **more):
    toy = Toy(folder, method=method, **more)
    toy.federation = Nobody(load_method(method)[0].contract(toy.settings), toy.ledger)
    return toy


def test_standalone_sends_nothing(tiny_generator):
    toy = Toy(tiny_generator, method="standalone")
    first = toy.clients()
    infos = toy.run()
    assert all(i.labels is None and i.losses["clients"] > 0 for i in infos)
    assert toy.ledger.totals() == (0, 0)
    assert all(not same(first[name], state) for name, state in toy.clients().items())


def test_no_rounds_are_standalone(tiny_generator):
    """T = 0: FedMMKT's clients are Standalone's, bit for bit."""
    one, two = Toy(tiny_generator), Toy(tiny_generator, method="standalone")
    for name, state in one.clients().items():
        assert same(state, two.clients()[name])


def test_a_standalone_client_that_fails(tiny_generator):
    broken = {"text-0": {"fault": "raise train"}}
    toy = Toy(tiny_generator, method="standalone", broken=broken)
    assert toy.run(1)[0].losses["clients"] > 0
    assert [m.client for m in toy.federation.missing] == ["text-0"]


@pytest.mark.parametrize("data", ["prompt", "caption", "representation"])
def test_self_finetuning(data, tiny_generator):
    vectors = {"features": lambda images: torch.from_numpy(images[:, :1, :WIDTH, 0].reshape(-1, WIDTH)).float()}
    toy = server_alone(tiny_generator, "self-finetune", data=data, tools=vectors)
    before = toy.server.state()[0]
    infos = toy.run()
    after = toy.server.state()[0]
    assert all(i.labels.kept.all() and (i.labels.voted == i.labels.drawn).all() for i in infos)
    assert np.bincount(infos[0].labels.drawn).tolist() == [SAMPLES // CLASSES] * CLASSES
    assert any(not np.array_equal(before[k], after[k]) for k in before)
    assert after["tuner/trained/bridge.weight"].any() == (data == "representation")
    again = server_alone(tiny_generator, "self-finetune", data=data, tools=vectors)
    again.run()
    assert same(after, again.server.state()[0])


def test_self_finetuning_needs_vectors_that_fit(tiny_generator):
    toy = server_alone(tiny_generator, "self-finetune", data="representation")
    with pytest.raises(BadInput, match="needs a frozen picture encoder"):
        toy.run(1)
    wide = {"features": lambda images: torch.zeros(len(images), 5)}
    toy = server_alone(tiny_generator, "self-finetune", data="representation", tools=wide)
    with pytest.raises(BadInput, match=f"gives 5 numbers, the clients' width is {WIDTH}"):
        toy.run(1)


def test_centralised(tiny_generator):
    real = private_of("image-0", "image", "private")
    toy = server_alone(tiny_generator, "centralised", tools={"real": real})
    infos = toy.run()
    assert all(i.losses["generator"] > 0 for i in infos)
    assert not toy.server.state()[0]["tuner/trained/bridge.weight"].any()
    with pytest.raises(BadInput, match="needs real pictures"):
        server_alone(tiny_generator, "centralised")
