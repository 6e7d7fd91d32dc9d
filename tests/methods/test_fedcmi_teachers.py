"""FedCMI's teachers besides the model received, and FedAvg with each kind's own cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from joint import BOTH, CLASSES, MODALITIES, SAMPLES, SOUND, WIDTH, Joint, client, resumes

from fedloom.federation.messages import Empty
from fedloom.methods.fedcmi import FedCMITargets, _Knowledge, _Objective
from fedloom.models.infiltration import Infiltrated

FEDCMI = "fedloom.methods.fedcmi:METHOD"
OFF = {"lambda_s": 0.0, "lambda_d": 0.0, "mu": 0.0}
UNIMODAL = {"lambda_d": 0.0, "mu": 0.0, "layers": 0}
OUT = {"teacher": "out-of-fold"}


def known() -> _Knowledge:
    return _Knowledge(torch.ones(CLASSES), torch.ones(CLASSES), (0.5, 0.25))


def all_of(half):
    return half.context.ready(dict(half.context.private)), torch.arange(SAMPLES)


# ------------------------------------------------------------------------------------------------ a moving average


def test_the_average_is_a_moving_one_of_what_was_received():
    half = client("a", method=FEDCMI, settings={"teacher": "average", "teacher_decay": 0.75, "warmup": 0})
    half.fit(Empty(), round=1)
    assert half.average == {}
    first = {k: np.full_like(v, 1.0) for k, v in half.parameters().items()}
    second = {k: np.full_like(v, 5.0) for k, v in first.items()}
    half.fit(FedCMITargets(first), round=2)
    assert all((v == 1).all() for v in half.average.values())
    half.take(second)
    half._average(second)
    assert all(np.allclose(v, 0.75 * 1 + 0.25 * 5) for v in half.average.values())
    taught = dict(half.teacher().named_parameters())
    assert all(torch.allclose(p, torch.tensor(2.0)) and not p.requires_grad for p in taught.values())
    assert all((p == 5).all() for p in half.context.model.parameters())  # what learns is the model received


def test_without_a_past_the_average_is_the_model_received():
    toys = [
        Joint(FEDCMI, {"a": BOTH, "b": BOTH}, warmup=0, **s) for s in ({}, {"teacher": "average", "teacher_decay": 0})
    ]
    for toy in toys:
        toy.run(3)
    one, two = (toy.server.groups["joint"] for toy in toys)
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_an_average_costs_no_bytes():
    plain, average = (Joint(FEDCMI, {"a": BOTH, "b": SOUND}, teacher=t) for t in ("received", "average"))
    plain.run(2)
    average.run(2)
    assert plain.ledger.totals(2) == average.ledger.totals(2)


# ------------------------------------------------------------------------------------------------------ out of fold


def test_no_sample_touches_the_teacher_of_its_own_fold():
    """With other samples in fold 0 teacher 0 ends the same to the last bit, the others and the model do not."""
    ends = []
    for changed in (False, True):
        half = client("a", method=FEDCMI, settings={**OUT, "folds": 3, "warmup": 0})
        half.context.clip = None
        folds = half.fold_of()
        assert sorted(folds.tolist()) == sorted(list(range(3)) * (SAMPLES // 3))
        if changed:
            half.context.private["spectrogram"][folds == 0] += 1
            half.context.private_labels[folds == 0] = 0
        for t in (1, 2):
            half.fit(Empty(), round=t)
        ends.append({k: v.clone() for k, v in half.context.model.state_dict().items()})
    same = {k: torch.equal(v, ends[1][k]) for k, v in ends[0].items()}
    assert all(same[k] for k in same if k.startswith("folds.0."))
    for start in ("folds.1.", "folds.2.", "bare.streams.audio"):
        assert not all(same[k] for k in same if k.startswith(start))


def test_teachers_learn_each_kind_s_cross_entropy_of_the_other_folds():
    half = client("a", method=FEDCMI, settings={**OFF, **OUT}, blanks=2)
    inputs, index = all_of(half)
    model: Infiltrated = half.context.model
    got = _Objective(half, None, None)(inputs, index)
    y, folds = half.context.private_labels, half.fold_of()
    wanted = F.cross_entropy(model(**inputs), y)
    for f, teacher in enumerate(model.folds):
        at = folds != f
        h = teacher.net.features(**{k: v[at] for k, v in inputs.items()})
        for i, kind in enumerate(MODALITIES):
            there = inputs["present"][at][:, i]
            wanted = wanted + F.cross_entropy(teacher.classifiers[kind](h[kind][there]), y[at][there])
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(("rho", "dominant"), [(2.0, "audio"), (0.5, "image")])
def test_each_sample_is_taught_by_its_own_fold_s_teacher(rho, dominant):
    half = client("a", method=FEDCMI, settings={**OFF, **OUT, "folds": 3, "lambda_d": 1.0})
    with torch.no_grad():
        for f, teacher in enumerate(half.context.model.folds):
            teacher.classifiers[dominant].bias[f] += 10.0  # teacher f says f
    objective = _Objective(half, known(), rho)
    inputs, _ = all_of(half)
    folds = half.fold_of()
    said = objective._lesson(inputs, dominant, folds)
    assert torch.equal(said.argmax(1), folds)
    teacher = objective.teacher.folds[1]
    wanted = teacher.classifiers[dominant](teacher.net.features(**inputs)[dominant])
    assert torch.allclose(said[folds == 1], wanted[folds == 1], atol=1e-5)
    assert not said.requires_grad


def test_teachers_travel_with_the_model_and_are_averaged():
    """Bytes by hand: each way F times the streams that a client holds, with a classifier each."""
    plain, out = (Joint(FEDCMI, {"a": BOTH, "b": SOUND}, **s) for s in ({}, OUT))
    plain.run(2)
    out.run(2)
    stream = {kind: n * WIDTH + WIDTH + 4 * WIDTH + (WIDTH + 1) * CLASSES for kind, n in (("audio", 12), ("image", 48))}
    more = 2 * 4 * (2 * stream["audio"] + stream["image"])  # two folds, four bytes a number; b holds sounds alone
    assert [a - b for a, b in zip(out.ledger.totals(2), plain.ledger.totals(2))] == [more, more]
    name = "folds.1.net.streams.image.body.weight"
    average = out.server.groups["joint"]
    sent = {k: out.traffic[2, k][1].parameters for k in "ab"}
    assert np.array_equal(average[name], sent["a"][name])
    assert name not in sent["b"]
    heard = name.replace("image", "audio")
    assert np.allclose(average[heard], (sent["a"][heard] + sent["b"][heard]) / 2, atol=1e-6)


@pytest.mark.parametrize("settings", [{"teacher": "average"}, {"teacher": "out-of-fold"}])
def test_same_bits_again_in_any_order_and_after_a_stop(settings):
    resumes(FEDCMI, **settings)


# --------------------------------------------------------------------------- FedAvg with each kind's cross-entropy


def test_the_row_with_unimodal_cross_entropy_is_that_and_no_more():
    half = client("a", method=FEDCMI, settings=UNIMODAL)
    inputs, index = all_of(half)
    objective = _Objective(half, known(), None)
    assert objective.teacher is None
    assert objective.distance is None
    model: Infiltrated = half.context.model
    y, h = half.context.private_labels, model.bare.features(**inputs)
    wanted = F.cross_entropy(model.bare.classify(model.bare.joined(h, inputs["present"])), y)
    for kind in MODALITIES:
        wanted = wanted + 2.0 * F.cross_entropy(model.classifiers[kind](h[kind]), y)
    assert torch.allclose(objective(inputs, index), wanted, atol=1e-5)
    names = {n.partition(".")[0] for n, _ in model.named_parameters()}
    assert names == {"bare", "classifiers"}  # neither projectors nor teachers
