"""The clients that lie, of the arms of a study."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from evidence import attackers
from evidence.attackers import ATTACKER, FLIP, NOISE, PoisonSettings, poisoned

from fedloom.federation.messages import ContractBreach
from fedloom.methods.base import load_method
from fedloom.methods.fedavg import FedAvgUpdate
from fedloom.methods.fedmmkt import FedMMKTLogits, FedMMKTOutputs, FedMMKTPictures, FedMMKTSettings
from fedloom.methods.retrieval_messages import Views
from fedloom.seeding import numpy_stream

SAMPLES, CLASSES, WIDTH = 40, 5, 8
Z, LOGITS = torch.zeros(SAMPLES, WIDTH), torch.eye(CLASSES).repeat(SAMPLES // CLASSES, 1)


def answer(method, name, view_seed=1, **settings):
    def rng(*names):
        return numpy_stream(0, name, *names)

    context = SimpleNamespace(name=name, rng=rng, modality="image")
    client = SimpleNamespace(settings=FedMMKTSettings(**settings), context=context)
    kind = type("Bare", (method.client,), {"__init__": lambda self: None})()
    kind.__dict__.update(client.__dict__)
    return kind.answer(FedMMKTPictures(np.zeros((SAMPLES, 1, 1, 3), np.uint8), view_seed), Z, LOGITS)


def test_the_others_are_honest():
    for method in (NOISE, FLIP):
        told = answer(method, "image-1")
        assert np.array_equal(told.labels, LOGITS.argmax(1))
        assert not told.representations.any()


def test_noise_is_another_each_round_and_sure_of_itself():
    first, second = (answer(NOISE, ATTACKER, seed) for seed in (1, 2))
    assert first.representations.std() > 0.8
    assert (first.labels == LOGITS.argmax(1).numpy()).mean() < 0.5
    assert np.median(first.entropies) < 0.3
    assert not np.array_equal(first.labels, second.labels)


def test_noise_of_logits():
    assert answer(NOISE, ATTACKER, variant="l").logits.std() > 5


def test_a_flipped_label_is_the_next_class():
    honest, told = answer(FLIP, "image-1"), answer(FLIP, ATTACKER)
    assert np.array_equal(told.labels, (honest.labels + 1) % CLASSES)
    np.testing.assert_allclose(told.entropies, honest.entropies, rtol=1e-5)


# ----------------------------------------------------------------------------- any method, any attack, any clients

LABELS = np.arange(SAMPLES, dtype=np.int32) % CLASSES
ROWS = np.random.default_rng(0).standard_normal((SAMPLES, WIDTH)).astype(np.float32)
SCORES = np.eye(CLASSES, dtype=np.float32)[LABELS]


def lie(reply, attack):
    return poisoned(reply, attack, np.random.default_rng(1), CLASSES)


def outputs(attack):
    return lie(FedMMKTOutputs(ROWS, LABELS, np.ones(SAMPLES, np.float32)), attack)


def test_lies_about_labels():
    for attack in ("flip", "certain"):
        assert np.array_equal(outputs(attack).labels, (LABELS + 1) % CLASSES)
        assert np.array_equal(outputs(attack).representations, ROWS)
    assert outputs("flip").entropies.all()
    assert not outputs("certain").entropies.any()
    assert not outputs("constant").labels.any()
    assert (outputs("constant").representations == 1).all()
    assert (outputs("noise").labels == LABELS).mean() < 0.5
    assert outputs("noise").representations.std() == pytest.approx(ROWS.std(), rel=0.2)
    assert np.array_equal(outputs("scaled").representations, 100 * ROWS)
    assert np.array_equal(outputs("scaled").labels, LABELS)
    assert np.isnan(outputs("nan").representations).all()


def test_lies_about_logits():
    said = {attack: lie(FedMMKTLogits(SCORES), attack).logits for attack in ("flip", "certain", "constant", "scaled")}
    for attack in ("flip", "certain"):
        assert np.array_equal(said[attack].argmax(1), (LABELS + 1) % CLASSES)
    assert said["certain"].max() == 1000
    assert not said["constant"].argmax(1).any()
    assert np.array_equal(said["scaled"], 100 * SCORES)


def test_lies_about_representations_and_parameters():
    """Where no label crosses, a flip is the next sample's row; parameters are flipped in training."""
    assert np.array_equal(lie(Views("p", 0.5, ROWS), "flip").image, np.roll(ROWS, 1, axis=0))
    update = FedAvgUpdate({"w": ROWS}, 10, 0.5)
    assert np.array_equal(lie(update, "flip").parameters["w"], ROWS)
    assert np.array_equal(lie(update, "scaled").parameters["w"], 100 * ROWS)
    assert lie(update, "certain").samples == 10_000
    assert lie(update, "noise").samples == 10


@pytest.mark.parametrize("name", ["FEDMMKT", "FEDMD", "CREAMFL", "FEDAVG", "FEDAFD", "FEDCMI"])
def test_the_wire_takes_what_is_declared(name):
    """All lies but NaN are well formed, so nothing but an average can stop them."""
    method, honest = getattr(attackers, name), load_method(name.lower())[0]
    settings = method.settings(attack="noise", liars=("a",))
    assert {f for f in PoisonSettings.model_fields if f in honest.settings.model_fields} == set()
    contract = method.contract(settings)
    assert contract.rows() == honest.contract(honest.settings()).rows()


def test_not_a_number_is_refused_where_numbers_are_declared_finite():
    contract = attackers.FEDAVG.contract(attackers.FEDAVG.settings())
    update = FedAvgUpdate({"w": ROWS}, 10, 0.5)
    for attack in set(get_args(PoisonSettings.model_fields["attack"].annotation)) - {"none", "nan", "late"}:
        contract.check("fit", lie(update, attack), "up")
    with pytest.raises(ContractBreach, match="holds NaN or infinity in 320 of 320 values"):
        contract.check("fit", lie(update, "nan"), "up")


def half(attack, name=ATTACKER, **more):
    """A client that only answers: FedAvg's, with a training of no steps."""
    settings = attackers.FEDAVG.settings(attack=attack, liars=(ATTACKER,), private_steps=0, extra_steps=0, **more)
    labels = torch.arange(6) % 3

    def rng(*names):
        return numpy_stream(0, name, *names)

    context = SimpleNamespace(
        name=name,
        rng=rng,
        private_labels=labels,
        private={},
        test_labels=labels,
        weight=lambda: len(labels),
        model=torch.nn.Linear(2, 3),
        task_loss=None,
        fit=lambda *a, **k: 0.5,
    )
    return attackers.FEDAVG.client(context, settings)


def test_who_lies_and_who_does_not():
    honest, liar = half("scaled", "image-1"), half("scaled")
    own = {k: v.numpy() for k, v in honest.context.model.state_dict().items()}
    assert all(np.array_equal(v, own[k]) for k, v in honest.fit(None, round=1).parameters.items())
    weight = liar.context.model.weight.detach().numpy()
    assert np.array_equal(liar.fit(None, round=1).parameters["weight"], np.float32(100) * weight)
    assert liar.context.private_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert half("flip").context.private_labels.tolist() == [1, 2, 0, 1, 2, 0]


def test_a_late_answer_is_true_and_late(monkeypatch):
    slept = []
    monkeypatch.setattr(attackers.time, "sleep", slept.append)
    liar = half("late", late_seconds=3.0)
    told = liar.fit(None, round=1).parameters["weight"]
    assert np.array_equal(told, liar.context.model.weight.detach().numpy())
    assert slept == [3.0]


def test_who_lies_in_some_arms_is_scored_in_none():
    with pytest.raises(RuntimeError, match="not scored"):
        half("none", unscored=(ATTACKER,)).evaluate(None, round=0)
