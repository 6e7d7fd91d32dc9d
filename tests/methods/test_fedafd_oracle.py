"""The bound of FedAFD's server distillation: who teaches, from what, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import ONE_EACH, PAIRS, WIDTH, Toy, private_of, same

from fedloom.errors import BadInput
from fedloom.functional.norms import unit
from fedloom.functional.similarity import distillation_distance
from fedloom.methods.base import load_method
from fedloom.methods.context import rows
from fedloom.tasks import ClientTask

ORACLE = "fedafd-oracle"
QUICK = {"oracle_steps": 3}


def toy_of(**settings):
    return Toy(None, ORACLE, clients=ONE_EACH, **{**QUICK, **settings})


def test_it_is_declared_as_a_bound_and_fedafd_is_not():
    assert load_method(ORACLE)[0].oracle
    assert not load_method("fedafd")[0].oracle


def test_the_server_believes_the_teacher_whatever_clients_say():
    toy = toy_of()
    toy.run(1)
    taught = toy.server.taught
    assert {m: tuple(z.shape) for m, z in taught.items()} == dict.fromkeys(("image", "text"), (PAIRS, WIDTH))
    assert all(torch.allclose(z.norm(dim=1), torch.ones(PAIRS), atol=1e-5) for z in taught.values())
    said = torch.randn(2, PAIRS, WIDTH)
    got, entropy = toy.server.ensemble("image", said, torch.ones(2, PAIRS, dtype=torch.bool), toy.server.bank())
    assert torch.equal(got, taught["image"])
    assert 0 < entropy <= np.log(2)  # of the weights that FedAFD would give these two


def test_the_loss_of_distillation_is_the_distance_to_the_teacher():
    """By hand, in turn and without steps: gamma times the mean squared difference, both modalities added."""
    toy = toy_of(together=False, gamma=2.0, distill_steps=1, server_steps=0, server_rate=1e-12)
    server = toy.server
    for context in server.models.values():
        context.model.unit = False  # without dropout; the server brings rows to unit length itself
    server._teacher = lambda: {m: unit(torch.randn(PAIRS, WIDTH)) for m in server.models}
    info = toy.run(1)[0]
    wanted = 0.0
    cut = toy.context.rng(1, "distillation").permutation(PAIRS)
    i = torch.from_numpy(cut[: min(c.batch for c in server.models.values())].copy())
    for m, context in server.models.items():
        z = unit(context.model.encode(**context.ready(rows(server.public[m], i))))
        wanted += 2.0 * distillation_distance(z, server.taught[m][i]).item()
    assert info.losses["distillation"] == pytest.approx(wanted, rel=1e-3)


def test_the_teacher_learns_from_clients_pairs_and_leaves_the_server_alone():
    toy = toy_of()
    before = {m: {k: v.clone() for k, v in c.model.state_dict().items()} for m, c in toy.server.models.items()}
    first = toy.server._teacher()
    for m, context in toy.server.models.items():
        assert all(torch.equal(v, before[m][k]) for k, v in context.model.state_dict().items())
        fresh = toy.context.models(ClientTask(m))
        assert not torch.allclose(first[m], unit(fresh.encode(toy.server.public[m])))  # it has learned
    assert all(torch.equal(a, b) for a, b in zip(first.values(), toy.server._teacher().values()))
    other = Toy(None, ORACLE, clients=ONE_EACH, tools={"pairs": private_of("other", "pair", "private")}, **QUICK)
    assert not torch.equal(other.server._teacher()["image"], first["image"])


def test_what_crosses_is_fedafd_s():
    totals = []
    for method in ("fedafd", ORACLE):
        toy = Toy(None, method, clients=ONE_EACH)
        toy.run(1)
        totals.append(toy.ledger.totals(1))
    assert totals[0] == totals[1]


def test_a_stop_between_rounds_changes_nothing_and_the_teacher_is_not_trained_anew():
    whole, broken, resumed = toy_of(), toy_of(), toy_of()
    whole.run(3)
    broken.run(2)
    resumed.server.load_state(*broken.server.state())
    for name in ONE_EACH:
        resumed.half(name).load_state(*broken.half(name).state())
    resumed.server._teacher = lambda: pytest.fail("trained anew")
    resumed.federation.round = 2
    resumed.run(1)
    assert same(whole.server.state()[0], resumed.server.state()[0])
    assert np.array_equal(whole.server.taught["text"].numpy(), resumed.server.taught["text"].numpy())


def test_without_clients_pairs_there_is_no_bound():
    with pytest.raises(BadInput, match="fedafd-oracle: nobody here holds all clients' pairs"):
        Toy(None, ORACLE, clients=ONE_EACH, tools={"pairs": None})
