"""Distillation into the server's encoders, alone and together with matching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paired_toys import TALKING, altered, listen, server
from toy_sites import ONE_EACH, PAIRS, WIDTH, Toy, same

from fedloom.functional.norms import unit
from fedloom.methods.context import rows
from fedloom.methods.retrieval_messages import Views


def test_the_server_embeds_any_pictures_and_texts():
    one = server("r-standalone")
    for kind, samples in (("image", one.pairs.images[:3]), ("text", one.pairs.texts[:3])):
        z = one.embed(kind, samples)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(z, one.bank()[kind][:3])


def test_without_distillation_steps_or_weight_the_clients_do_not_reach_the_server():
    """No steps: the server is as matching alone leaves it. What is believed is told all the same."""
    toys = [Toy(None, m, clients=ONE_EACH, distill_steps=0) for m in ("r-fed-et", "r-standalone")]
    infos = [toy.run()[-1] for toy in toys]
    assert same(*(toy.server.state()[0] for toy in toys))
    assert infos[0].losses["distillation"] is None
    assert "weight entropy text" in infos[0].losses


@pytest.mark.parametrize(("distance", "expected"), [("mse", 2 / WIDTH), ("l2", 2**0.5)])
def test_distillation_by_hand(distance, expected):
    """Unit rows at right angles: |difference|^2 = 2. One step's loss is taken before the step."""
    alone = {"together": False, "gamma": 0.5, "distill_steps": 1}
    toy = Toy(None, "r-fed-et", clients=ONE_EACH, distance=distance, **alone)
    z = toy.server.bank()["image"]
    across = unit(torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(0)))
    across = unit(across - (across * z).sum(1, keepdim=True) * z)
    for site in toy.server.models.values():
        site.model.unit = False  # no dropout; rows are brought to unit length anyway
    views = {"image-0": Views(toy.server.name, 0.0, 7 * across.numpy())}
    told = toy.server.distil(1, toy.federation, views, toy.server.bank())
    assert told["distillation"] == pytest.approx(0.5 * expected, rel=1e-4)


def test_together_a_step_is_of_matching_and_of_distillation():
    """The gradient of matching on training views + gamma times the distance of the kind that has an owner."""
    toy = Toy(None, "r-fed-et", clients=ONE_EACH, gamma=0.5)
    one, heard = toy.server, []
    one._fit = lambda t, what, steps, loss, wanted=None: heard.append((steps, loss, wanted))
    target = unit(torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(0)))
    target[3] = 0  # nobody knows it
    one.distil(1, toy.federation, {"image-0": Views(one.name, 0.0, target.numpy())}, one.bank())
    ((steps, loss, wanted),) = heard
    assert (steps, wanted) == (2, None)  # no batch is left out: each has pairs to match
    for site in one.models.values():
        site.model.eval()  # no dropout
    owned = [p for site in one.models.values() for p in site.model.body.parameters()]
    owned += list(one.matching.parameters())
    i = torch.tensor([3, 0, 7, 5])

    def draws():
        return {m: torch.Generator().manual_seed(1) for m in one.models}

    views = {m: s.views(rows(one.public[m], i), draws()[m]) for m, s in one.models.items()}
    seen = {m: unit(one.models[m].model.encode(**views[m])) for m in views}
    image = one.models["image"]
    known = unit(image.model.encode(**image.ready(rows(one.public["image"], i[1:]))))
    slow = one.matching(seen["image"], seen["text"]) / 4
    slow = slow + 0.5 * (known - target[i[1:]]).square().mean()
    fast = loss(i, draws())
    torch.testing.assert_close(fast, slow)
    for a, b in zip(torch.autograd.grad(fast, owned), torch.autograd.grad(slow, owned)):
        assert b.abs().sum() > 0
        torch.testing.assert_close(a, b)


def test_together_a_kind_without_an_owner_still_matches():
    """Also where the distillation weighs nothing."""
    for gamma in (0.0, 0.4):
        toy = Toy(None, "r-fed-et", clients={"text-0": "text"}, server_steps=0, gamma=gamma)
        before = toy.server.state()[0]
        (info,) = toy.run(1)
        after = toy.server.state()[0]
        moved = [k for k in before if k.startswith("models/image/model/body")]
        assert moved
        assert not any(np.array_equal(before[k], after[k]) for k in moved)
        assert not np.array_equal(before["matching/scale"], after["matching/scale"])
        assert "weight entropy image" not in info.losses
        # Nats of matching; a distance of unit rows is at most 4 / WIDTH.
        assert info.losses["distillation"] > 1


@pytest.mark.parametrize("method", TALKING)
def test_longer_rows_earn_nothing(method):
    """64 times as long, which rounds nothing: the server hears the same bits."""
    heard = []
    for length in (1, 64):
        toy = Toy(None, method, clients=ONE_EACH)
        altered(toy, "pair-0", image=lambda z, by=length: by * z, text=lambda z, by=length: by * z)
        heard.append(listen(toy))
        toy.run(1)
    assert all(torch.equal(heard[0][m][0], heard[1][m][0]) for m in ("image", "text"))
