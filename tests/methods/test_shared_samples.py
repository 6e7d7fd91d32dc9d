"""The methods that learn from shared samples: rounds, equal bits, absences, and each method's own step."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from toy_sites import CLASSES, CLIENTS, SAMPLES, WIDTH, Toy, client, public_set, same, server_learner

from fedloom.data.containers import PublicData
from fedloom.methods.creamfl import CreamFLGlobals, inter_contrast, intra_contrast
from fedloom.methods.fedet import FedETConsensus as Weighted
from fedloom.methods.fedgems import FedGEMSTargets, blend
from fedloom.methods.fedmd import FedMDConsensus
from fedloom.methods.fedmekt import FedMEKTMean
from fedloom.methods.shared_messages import SharedAgain, SharedPictures, SharedTexts

METHODS = ("fedmd", "fedgems", "fed-et", "fedmekt", "creamfl")
IMAGES = {"image-0": "image", "image-1": "image"}
PUBLIC = {"shared": "public", "public": 10}


@pytest.mark.parametrize("clients", [CLIENTS, IMAGES], ids=["both", "images"])
@pytest.mark.parametrize("method", METHODS)
def test_two_rounds_on_synthetic_samples(method, clients, tiny_generator):
    toy = Toy(tiny_generator, method, clients=clients)
    before, first = toy.server.state()[0], toy.clients()
    infos = toy.run()
    assert toy.federation.missing == []
    for info in infos:
        assert info.labels.images.shape == (SAMPLES, 12, 12, 3)
        assert info.labels.kept.all()
        assert ((info.labels.voted >= 0) & (info.labels.voted < CLASSES)).all()
        assert info.losses["generator"] > 0
        assert info.losses["clients"] > 0
        assert set(info.seconds) == {"synthesis", "inference", "fusion", "generator", "retraining"}
    after = toy.server.state()[0]
    assert any(not np.array_equal(before[k], after[k]) for k in before if k.startswith("tuner/trained/unet."))
    for name, state in toy.clients().items():
        assert any(not np.array_equal(first[name][k], state[k]) for k in first[name] if k in state), name
    tuned_on_representations = method in ("fedmekt", "creamfl")
    assert after["tuner/trained/bridge.weight"].any() == tuned_on_representations


@pytest.mark.parametrize("method", METHODS)
def test_two_rounds_on_a_public_set(method, tiny_generator):
    """No generator; the set is sent once."""
    toy = Toy(tiny_generator, method, tools={"generator": None, "captioner": None}, **PUBLIC)
    sent = []
    push = toy.federation.ask
    toy.federation.ask = lambda verb, said, **how: sent.append((verb, said)) or push(verb, said, **how)
    infos = toy.run()
    assert toy.federation.missing == []
    assert all(info.labels is None and "generator" not in info.losses for info in infos)
    asked = [messages for verb, messages in sent if verb == "infer"]
    assert {type(m) for m in asked[0].values()} == {SharedPictures, SharedTexts}
    assert {type(m) for m in asked[1].values()} == {SharedAgain}
    assert len(asked[0]["image-0"].images) == 10
    assert "unet" not in "".join(toy.server.state()[0])


def test_a_public_set_is_of_pairs(tiny_generator):
    """Whole texts that belong to no picture, of which there may be fewer, have no part in it."""
    generic = public_set(10)
    more = PublicData(generic.images, generic.captions, generic.names, ("a text", "another"))
    toy = Toy(tiny_generator, "fedmd", tools={"public": more}, **{**PUBLIC, "public": 6})
    toy.run(1)
    drawn = toy.server.draw(1, toy.federation)
    assert len(drawn) == 6
    for image, text, label in zip(drawn.images, drawn.texts, drawn.labels):
        (i,) = np.flatnonzero((generic.images == image).all((1, 2, 3)))
        assert (text, label) == (generic.captions[i], generic.names[i])


@pytest.mark.parametrize("settings", [{}, PUBLIC], ids=["synthetic", "public"])
@pytest.mark.parametrize("method", METHODS)
def test_same_bits_in_any_order_and_after_a_stop(method, settings, tiny_generator):
    """Clients listed backwards change nothing; nor does a server and its clients that begin anew from their state."""
    whole = Toy(tiny_generator, method, **settings)
    whole.run(3)
    backwards = Toy(tiny_generator, method, clients=dict(reversed(CLIENTS.items())), **settings)
    backwards.run(3)
    assert same(whole.server.state()[0], backwards.server.state()[0])
    assert all(same(whole.clients()[k], backwards.clients()[k]) for k in CLIENTS)

    broken, resumed = (Toy(tiny_generator, method, **settings) for _ in range(2))
    broken.run(2)
    resumed.server.load_state(*broken.server.state())
    for name in CLIENTS:
        resumed.half(name).load_state(*broken.half(name).state())
    resumed.federation.round = 2
    resumed.run(1)
    assert same(whole.server.state()[0], resumed.server.state()[0])
    assert all(same(whole.clients()[k], resumed.clients()[k]) for k in CLIENTS)


@pytest.mark.parametrize("method", METHODS)
def test_a_client_that_fails_is_left_out_and_comes_back(method, tiny_generator):
    broken = {"text-0": {"fault": "raise infer"}}
    toy = Toy(tiny_generator, method, broken=broken)
    info = toy.run(1)[0]
    assert {m.client for m in toy.federation.missing} == {"text-0"}
    assert info.labels.kept.all()
    assert info.losses["clients"] > 0


@pytest.mark.parametrize("method", ["fedmd", "fed-et", "fedmekt", "creamfl"])
def test_nobody_answers(method, tiny_generator):
    toy = Toy(tiny_generator, method, broken={k: {"fault": "raise infer"} for k in CLIENTS})
    before = toy.server.state()[0]
    info = toy.run(1)[0]
    assert not info.labels.kept.any()
    assert info.losses["generator"] is None
    after = toy.server.state()[0]
    assert all(np.array_equal(before[k], after[k]) for k in before if k.startswith("tuner/trained/unet."))


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_are_not_finite_spoil_nothing(method, tiny_generator):
    toy = Toy(tiny_generator, method, broken={"image-0": {"spoilt": (0, 3)}})
    infos = toy.run(2)
    assert toy.federation.missing == []
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values() if v.dtype.kind == "f" and v.size)
    assert infos[1].labels.kept.all()


@pytest.mark.parametrize(
    ("method", "lesson"),
    [
        ("fedmd", FedMDConsensus(np.ones(4, bool), np.zeros((4, CLASSES), np.float32))),
        ("fed-et", Weighted(np.ones(4, bool), np.zeros(4, np.int32), np.zeros((4, CLASSES), np.float32))),
        (
            "fedgems",
            FedGEMSTargets(np.ones(4, bool), np.zeros(4, np.int32), np.zeros((4, CLASSES), np.float32)),
        ),
        ("fedmekt", FedMEKTMean(np.ones(4, bool), np.zeros((4, WIDTH), np.float32))),
        ("creamfl", CreamFLGlobals(np.ones(4, bool), np.zeros((4, WIDTH), np.float32))),
    ],
)
def test_a_lesson_about_samples_it_was_not_shown(method, lesson):
    half = client("image-0", "image", method, {})
    with pytest.raises(ValueError, match="asked to learn from 4 samples it was not shown"):
        half.learn(lesson, round=1)
    with pytest.raises(ValueError, match="asked about 4 samples, and holds 0"):
        half.infer(SharedAgain(4), round=1)


# ---------------------------------------------------------------------------------------------- each method's own


def test_fedmd_fits_the_mean_of_all_scores(tiny_generator):
    toy = Toy(tiny_generator, "fedmd")
    heard = {}
    ask = toy.federation.ask
    toy.federation.ask = lambda verb, said, **how: ask(verb, heard.setdefault(verb, said), **how)
    halves = {k: client(k, m, "fedmd", toy.settings.model_dump()) for k, m in CLIENTS.items()}
    toy.run(1)
    said = {k: halves[k].infer(heard["infer"][k], round=1).logits for k in CLIENTS}
    by_modality = [np.mean([said[k] for k, m in CLIENTS.items() if m == want], axis=0) for want in ("image", "text")]
    expected = np.mean(by_modality, axis=0)
    for lesson in heard["learn"].values():
        assert np.allclose(lesson.scores, expected, atol=1e-5)


def test_fedgems_asks_only_about_what_the_server_gets_wrong(tiny_generator):
    toy = Toy(tiny_generator, "fedgems")
    heard = {}
    ask = toy.federation.ask
    toy.federation.ask = lambda verb, said, **how: ask(verb, heard.setdefault(verb, said), **how)
    toy.run(1)
    server = Toy(tiny_generator, "fedgems").server  # as it was before the round
    asked = heard["infer"]["image-0"]
    _, scores = server.models["image"].look(server.models["image"].inputs(asked.images))
    labels = heard["learn"]["image-0"].labels
    assert (asked.wanted == (scores.argmax(1).numpy() != labels)).all()


def test_fedgems_on_a_public_set_stores_what_it_once_knew(tiny_generator):
    toy = Toy(tiny_generator, "fedgems", tools={"generator": None, "captioner": None}, **PUBLIC)
    toy.run(1)
    once = {m: torch.isfinite(v).all(1) for m, v in toy.server.stored.items()}
    assert any(found.any() for found in once.values())
    toy.run(1)
    for m, found in once.items():
        assert torch.isfinite(toy.server.stored[m][found]).all()


def test_fedgems_loss_by_hand():
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    labels, teacher = torch.tensor([0, 0]), torch.tensor([[5.0, 5.0], [0.0, 0.0]])
    p = logits.softmax(1)
    known = -p[:, 0].log()
    kl = 0.5 * (0.5 / p[1]).log().sum()
    expected = (known[0] + 0.75 * known[1] + 0.25 * kl) / 2
    found = blend(logits, labels, teacher, torch.tensor([False, True]), 0.75)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_creamfl_contrasts_by_hand():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    rows = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, -2.0]])  # cosines over 0.5
    own = torch.tensor([0, 1])
    assert inter_contrast(z, anchors, own, 0.5).item() == pytest.approx(
        (rows.logsumexp(1) - rows[[0, 1], own]).mean().item(), abs=1e-6
    )
    old = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    near, far = torch.tensor([2.0, 2.0]), torch.tensor([0.0, 2.0])
    expected = -(near - torch.stack([near, far]).logsumexp(0)).mean()
    assert intra_contrast(z, anchors[:2], old, 0.5).item() == pytest.approx(expected.item(), abs=1e-6)


def test_creamfl_with_one_modality_has_no_contrast_between(tiny_generator):
    toy = Toy(tiny_generator, "creamfl", clients=IMAGES)
    toy.run(1)
    for state in toy.clients().values():
        assert any(k.endswith("/own") for k in state)
        assert not any(k.endswith("/other") for k in state)


def test_creamfl_on_a_public_set_trains_encoders(tiny_generator):
    toy = Toy(tiny_generator, "creamfl", tools={"generator": None, "captioner": None}, **PUBLIC)
    before = toy.server.state()[0]
    toy.run(1)
    after = toy.server.state()[0]
    for m in ("image", "text"):
        name = f"models/{m}/model/body.weight"
        assert not np.array_equal(before[name], after[name])


def test_creamfls_encoders_draw_from_a_stream_of_their_own():
    """Whatever was drawn before from torch's global one, from which dropout draws."""
    tools = {"generator": None, "captioner": None, "models": functools.partial(server_learner, unit=True)}
    states = []
    for seed in (1, 2):
        toy = Toy(None, "creamfl", tools=tools, **PUBLIC)
        torch.manual_seed(seed)
        toy.run(1)
        states.append(toy.server.state()[0])
    assert same(*states)


def test_fedmekt_without_weight_is_private_training(tiny_generator):
    """a = 0: what others say makes no difference."""
    alone = Toy(tiny_generator, "fedmekt", kl_weight=0.0)
    fewer = Toy(tiny_generator, "fedmekt", kl_weight=0.0, broken={"text-1": {"fault": "raise infer"}})
    alone.run(1)
    fewer.run(1)

    def learner(toy, name):
        return {k: v for k, v in toy.clients()[name].items() if k.startswith("context/model/")}

    assert same(learner(alone, "image-0"), learner(fewer, "image-0"))
    heard = Toy(tiny_generator, "fedmekt", kl_weight=1.0)
    heard.run(1)
    assert not same(learner(alone, "image-0"), learner(heard, "image-0"))
