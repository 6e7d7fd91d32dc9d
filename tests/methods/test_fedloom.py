"""The method called fedloom: posteriors, few bytes, preferences, what is drawn, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, CLIENTS, SAMPLES, WIDTH, Toy, client, same

from fedloom.errors import BadInput
from fedloom.methods.fedloom import FedloomAnswers, FedloomSettings, FedloomTargets
from fedloom.methods.preference import Preferences
from fedloom.methods.shared_messages import SharedPictures
from fedloom.seeding import torch_stream

ALL = {
    "codes": 4,
    "preference": 0.5,
    "soft": True,
    "memory": 0.5,
    "evidence": 0.5,
    "focus": 0.5,
    "far": 0.1,
    "calibrate": True,
}


@pytest.mark.parametrize("settings", [{}, ALL, {"soft": False, "focus": 0, "calibrate": False, "far": 0, "mix": True}])
def test_two_rounds(settings, tiny_generator):
    toy = Toy(tiny_generator, "fedloom", **settings)
    before, first = toy.server.state()[0], toy.clients()
    infos = toy.run()
    assert toy.federation.missing == []
    for info in infos:
        assert info.labels.kept.all()
        assert ((info.labels.voted >= 0) & (info.labels.voted < CLASSES)).all()
        assert info.losses["generator"] > 0
    after = toy.server.state()[0]
    assert any(not np.array_equal(before[k], after[k]) for k in before if k.startswith("tuner/trained/unet."))
    for name, state in toy.clients().items():
        assert any(not np.array_equal(first[name][k], state[k]) for k in first[name] if k in state), name


@pytest.mark.parametrize("settings", [{}, ALL])
def test_same_bits_in_any_order_and_after_a_stop(settings, tiny_generator):
    whole = Toy(tiny_generator, "fedloom", **settings)
    whole.run(2)
    other = Toy(tiny_generator, "fedloom", clients=dict(reversed(CLIENTS.items())), **settings)
    other.run(1)
    again = Toy(tiny_generator, "fedloom", **settings)
    again.server.load_state(*other.server.state())
    for name in CLIENTS:
        again.half(name).load_state(*other.half(name).state())
    again.federation.round = 1
    again.run(1)
    assert same(again.server.state()[0], whole.server.state()[0])
    for name, state in whole.clients().items():
        assert same(again.clients()[name], state), name


def test_bytes_up_are_few(tiny_generator):
    """Three classes a sample, three bytes each; a tenth of FedMMKT's at the papers' 64 numbers and 150 samples."""
    toy = Toy(tiny_generator, "fedloom", top=3)
    toy.run(1)
    said = toy.half("image-0").infer(SharedPictures(np.zeros((SAMPLES, 12, 12, 3), np.uint8)), round=2)
    assert isinstance(said, FedloomAnswers)
    assert said.classes.nbytes + said.shares.nbytes == 9 * SAMPLES
    fedmmkt = 4 * 64 + 4 + 4
    assert fedmmkt / 10 >= 9


def test_an_absent_answer_is_no_evidence(tiny_generator):
    toy = Toy(tiny_generator, "fedloom", broken={"image-0": {"spoilt": (0, 1)}, "text-0": {"fault": "raise infer"}})
    (info,) = toy.run(1)
    assert info.labels.kept.all()
    assert set(toy.server.annotators.known) == {"image-0", "image-1", "text-1", " prompt"}


def test_nobody_answers(tiny_generator):
    toy = Toy(tiny_generator, "fedloom", broken={k: {"fault": "raise infer"} for k in CLIENTS})
    (info,) = toy.run(1)
    assert not info.labels.kept.any()
    assert (info.labels.voted == -1).all()


def test_what_is_needed_is_drawn(tiny_generator):
    toy = Toy(tiny_generator, "fedloom", focus=1.0)
    assert np.bincount(toy.server.classes(1), minlength=3).tolist() == [4, 4, 4]
    toy.server.annotators.need = torch.tensor([0.0, 1.0, 0.0]).double()
    assert set(toy.server.classes(2)) == {1}


def test_a_client_leaves_out_what_is_far_from_its_own(tiny_generator):
    half = client("image-0", "image", "fedloom", {"far": 0.34, "calibrate": False})
    directions = torch.cat([torch.eye(2, WIDTH), -torch.eye(1, WIDTH)])
    spread = torch.linspace(-0.3, 0.3, 20)[:, None]
    own = directions[half.context.private_labels % 2] + spread * torch.eye(1, WIDTH).roll(2, 1)
    asked = torch.cat([own[8:12], directions[[2, 2]]])
    half.context.encode = lambda inputs, *_: own if inputs is half.context.private else asked
    half.infer(SharedPictures(np.zeros((6, 12, 12, 3), np.uint8)), round=1)
    message = FedloomTargets(np.ones(6, bool), np.zeros((6, 1), np.uint16), np.full((6, 1), 255, np.uint8))
    found = half.targets(message, torch.ones(6, dtype=torch.bool))
    assert found["weight"].tolist() == [1, 1, 1, 1, 0, 0]
    assert found["posterior"].tolist() == [[1, 0, 0]] * 6


def test_preferences_pull_towards_what_was_accepted(tiny_generator):
    toy = Toy(tiny_generator, "fedloom", preference=1.0)
    tuner, prefer = toy.server.tuner, toy.server.preferences
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    drawn = np.zeros(8, np.int64)
    right = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.5]).double()
    prefer.add(pictures, drawn, torch.stack([right, 1 - right, 0 * right], 1))
    assert prefer.pool.samples()["accepted"].tolist() == [True] * 4 + [False] * 2  # the doubtful are no pair
    losses = []
    for step in range(12):
        tuner.optimizer.zero_grad()
        loss = prefer.loss(40, np.random.default_rng(step), torch_stream(0, "noise", step))
        loss.backward()
        tuner.optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(2), abs=1e-3)  # as the untouched generator
    assert np.mean(losses[-4:]) < losses[0]


def test_a_prompt_of_one_kind_makes_no_pair(tiny_generator):
    toy = Toy(tiny_generator, "fedloom", preference=1.0)
    prefer = toy.server.preferences
    prefer.add(np.zeros((2, 12, 12, 3), np.uint8), np.zeros(2, np.int64), torch.eye(3)[[0, 0]].double())
    assert prefer.loss(8, np.random.default_rng(0), torch_stream(0, "noise")).item() == 0


def test_preferences_need_errors_of_single_pictures(tiny_generator):
    tuner = Toy(tiny_generator, "fedloom").server.tuner

    class Other:
        pass

    tuner.generator = Other()
    with pytest.raises(BadInput, match=r"settings\.preference needs the embedded generator"):
        Preferences(tuner, ("a",), strength=1, share=1, sure=0.9)


def test_the_untouched_generator_is_kept_for_preferences():
    assert FedloomSettings(preference=1, drawn_by="tuned").keeps_origin
    assert not FedloomSettings(drawn_by="tuned").keeps_origin


def test_pairs_are_of_the_posterior_where_labels_are_learned(tiny_generator):
    """What is doubtful is neither accepted nor refused, though clients are taught its most probable label."""
    toy = Toy(tiny_generator, "fedloom", preference=1.0, evidence=0.05)
    (info,) = toy.run(1)
    belief, drawn = toy.server._belief, torch.from_numpy(info.labels.drawn)
    right = belief[torch.arange(len(drawn)), drawn]
    clear = ((right >= 0.9) | (right <= 1 - 0.9)).sum()
    assert clear < len(drawn)
    assert len(toy.server.preferences.pool.samples().get("drawn", ())) == clear
