"""LoRA-FL, Bias-FL and FedDAT: one frozen model of both modalities, of which a small part is exchanged."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_sites import CLIENTS, PROMPTS, Toy, client, same

from fedloom.federation.messages import Empty
from fedloom.methods.base import load_method
from fedloom.methods.fedavg import FedAvgAverage
from fedloom.methods.feddat import dual_loss

METHODS = ("lora-fl", "bias-fl", "feddat")
# The toys' towers: hidden 16, one layer of two heads, twice 16 wide inside; pictures of 12 pixels in patches of 6.
LORA = 2 * 2 * (2 * 16 + 16 * 2)  # towers x (query, value) x (A + B), rank 2
ADAPTERS = 2 * (16 * 2 + 2 + 2 * 16 + 16)  # blocks x (down + up, each with bias)


def learner(state: dict) -> dict:
    return {k.removeprefix("context/model/"): v for k, v in state.items() if k.startswith("context/model/")}


def is_head(name: str) -> bool:
    return "head." in name


@pytest.mark.parametrize(("method", "numbers"), [("lora-fl", LORA), ("feddat", ADAPTERS), ("bias-fl", None)])
def test_what_crosses_the_wire(method, numbers, tiny_generator):
    toy = Toy(tiny_generator, method)
    before = toy.clients()
    sent = client("image-0", "image", method, toy.settings.model_dump()).fit(Empty(), round=1).parameters
    assert not any(is_head(name) for name in sent)
    state = learner(before["image-0"])
    if method == "bias-fl":
        biases = {k: v for k, v in state.items() if k.endswith("bias") and not is_head(k)}
        assert sent.keys() == biases.keys()
        numbers = sum(v.size for v in biases.values())
    assert sum(v.size for v in sent.values()) == numbers
    toy.run(2)
    update = 4 * numbers + 16  # samples and loss take 8 bytes each
    assert toy.ledger.totals(1) == (4 * update, 0)
    assert toy.ledger.totals(2) == (4 * update, 4 * 4 * numbers)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_part_and_the_head_are_trained(method, tiny_generator):
    toy = Toy(tiny_generator, method)
    before = {k: learner(v) for k, v in toy.clients().items()}
    toy.run(2)
    after = {k: learner(v) for k, v in toy.clients().items()}
    trains = {"lora-fl": ".lora_", "bias-fl": "bias", "feddat": "adapters."}[method]
    for k in CLIENTS:
        moved = {n for n in before[k] if not np.array_equal(before[k][n], after[k][n])}
        assert moved
        assert all(trains in n or is_head(n) for n in moved)
        assert any(is_head(n) for n in moved)
        assert any(trains in n for n in moved)


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_is_over_clients_of_both_modalities(method, tiny_generator):
    toy = Toy(tiny_generator, method)
    toy.run(1)
    assert len(toy.server.groups) == 1
    (average,) = toy.server.groups.values()
    states = [learner(v) for _, v in sorted(toy.clients().items())]
    for name, value in average.items():
        mean = sum(s[name].astype(np.float64) for s in states) / 4  # as many samples each
        assert np.allclose(value, mean, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_one_client_alone_is_its_own_mean(method, tiny_generator):
    toy = Toy(tiny_generator, method, clients={"text-0": "text"})
    toy.run(2)
    (average,) = toy.server.groups.values()
    own = learner(toy.clients()["text-0"])
    assert same(average, {k: own[k] for k in average})


def test_models_are_replaced_and_stay_replaced():
    from fedloom.config import Config

    clients = Config().clients
    for name in METHODS:
        kind, _ = load_method(name)
        once = kind.models(kind.settings(), clients)
        assert {g.arch for g in (*once.image, *once.text)} == {"pair"}
        assert [g.count for g in once.image] == [g.count for g in clients.image]
        assert kind.models(kind.settings(), once) == once  # a run that is resumed says them again
        assert once.names("text") == clients.names("text")


# ----------------------------------------------------------------------------------------------------------- FedDAT


def test_the_dual_loss_by_hand():
    """Two classes, T = 1. z_1 says (1/2, 1/2), the teacher (3/4, 1/4); the label is the first."""
    z1, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    known = math.log(2) + math.log(4 / 3)
    forth = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)  # KL(teacher || z_1)
    back = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    found = dual_loss(z1, teacher, torch.tensor([0]), 1.0)
    assert found.item() == pytest.approx((known + forth + back) / 2, abs=1e-6)


def test_no_gradient_reaches_a_teacher():
    torch.manual_seed(0)
    labels = torch.tensor([0, 2])
    z1, zd = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    dual_loss(z1, zd, labels, 3.0).backward()
    for one, other in ((z1, zd), (zd, z1)):
        alone = one.detach().clone().requires_grad_()
        log_q, p = F.log_softmax(alone / 3, 1), F.softmax(other.detach() / 3, 1)
        slow = F.cross_entropy(alone, labels) + 9 * F.kl_div(log_q, p, reduction="batchmean")
        (slow / 2).backward()
        assert torch.allclose(one.grad, alone.grad, atol=1e-7)


def test_the_frozen_adapter_is_the_shared_one_of_the_rounds_start():
    half = client("image-0", "image", "feddat", {"private_steps": 3, "extra_steps": 0, "rank": 2})
    first = half.fit(Empty(), round=1).parameters
    sent = {k: v + 1.0 for k, v in first.items()}
    half.fit(FedAvgAverage(sent), round=2)
    state = half.context.model.state_dict()
    for name, value in sent.items():
        assert np.array_equal(state[name.replace(".shared.", ".frozen.")].numpy(), value)
        assert not np.array_equal(state[name].numpy(), value)
        assert not np.array_equal(state[name.replace(".shared.", ".own.")].numpy(), value)


def test_a_client_is_scored_with_its_teacher():
    half = client("text-0", "text", "feddat", {"private_steps": 2, "extra_steps": 0, "rank": 2})
    half.fit(Empty(), round=1)
    before = half.context.look(half.context.test)[1]
    for three in half.context.model.adapters:
        for p in three.shared.parameters():
            p.data.add_(1.0)
    assert torch.equal(half.context.look(half.context.test)[1], before)
    half.context.model.adapters[-1].own.up.bias.data.add_(1.0)
    assert not torch.equal(half.context.look(half.context.test)[1], before)


def test_the_decoder_begins_unheard_and_the_unet_stays(tiny_generator):
    toy = Toy(tiny_generator, "feddat")
    generator = toy.server.context.generator

    def draw():
        return generator.synthesize(PROMPTS, torch.Generator().manual_seed(0))

    def unet():
        return {k: v.numpy().copy() for k, v in generator.unet.state_dict().items()}

    before, weights = draw(), unet()
    toy.run(1)
    assert same(weights, unet())
    changed = draw()
    assert not np.array_equal(before, changed)
    for leave in toy.server.decoder.leave:
        torch.nn.init.zeros_(leave.weight)
        torch.nn.init.zeros_(leave.bias)
    assert np.array_equal(before, draw())


def test_without_a_decoder_there_is_no_generator():
    kind, _ = load_method("feddat")
    assert kind.needs(kind.settings()) == {"generator", "public"}
    assert kind.needs(kind.settings(decoder=False)) == frozenset()
