"""The clients that lie, of the arms of a study."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from evidence.attackers import ATTACKER, FLIP, NOISE

from fedloom.methods.fedmmkt import FedMMKTPictures, FedMMKTSettings
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
