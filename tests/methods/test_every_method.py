"""What holds for every method: it begins as Standalone, runs with one client, and sends what is counted here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_sites import (
    CLASSES,
    CLIENTS,
    ONE_EACH,
    PAIRED,
    PAIRS,
    QUICK,
    SAMPLES,
    SIDE,
    WIDTH,
    Toy,
    client,
    learner_for,
    words,
)

from fedloom.methods.base import load_method
from fedloom.methods.catalogue import CATALOGUE

WITH_CLIENTS = [m for m in QUICK if load_method(m)[0].tasks]
WITH_PAIRS = [m for m in QUICK if load_method(m)[0].tasks & {"pair"}]
SHARED = ("fedmd", "fedgems", "fed-et", "fedmekt", "creamfl")
PICTURE = 3 * SIDE**2
DONE = 8  # the loss
KEPT = -(-SAMPLES // 8)  # a bit a sample


def test_every_method_is_tried_here():
    """Those for multimodal clients alone are below."""
    joint = {m for m in CATALOGUE if load_method(m)[0].tasks == {"joint"}}
    assert {CATALOGUE[m].item for m in set(CATALOGUE) - joint} == {CATALOGUE[m].item for m in QUICK}


@pytest.mark.parametrize("method", WITH_CLIENTS)
@pytest.mark.parametrize(("name", "modality"), [("image-0", "image"), ("text-1", "text")])
def test_without_a_round_it_is_standalone(method, name, modality):
    """On the same model, which the methods on one frozen backbone bring themselves."""
    kind, fixed = load_method(method)
    half = client(name, modality, method, {**QUICK[method], **fixed})
    bare = (
        learner_for(kind, kind.settings(**QUICK[method]))
        or client(name, modality, "standalone", {}, unit=method in PAIRED).context.model
    )
    z, logits = half.context.look(half.context.test)
    with torch.no_grad():
        inputs = half.context.ready(half.context.test)
        assert torch.equal(z, bare.eval().encode(**inputs))
        assert torch.equal(logits, bare(**inputs))
    assert torch.equal(half.represent(half.context.test), z)


@pytest.mark.parametrize("method", WITH_PAIRS)
def test_without_a_round_a_client_of_pairs_is_standalone(method):
    half, alone = (client("pair-0", "pair", m, QUICK[m]) for m in (method, "standalone"))
    z = half.represent(half.context.test)
    assert torch.equal(z, alone.represent(alone.context.test))
    said, bare = (x.evaluate(None, round=0) for x in (half, alone))
    assert (said.accuracy, said.samples, said.fold) == (bare.accuracy, 20, 4)
    assert np.array_equal(said.recalls, bare.recalls)


ONE = [
    *((m, *one) for m in WITH_CLIENTS for one in (("image-0", "image"), ("text-0", "text"))),
    *((m, "pair-0", "pair") for m in WITH_PAIRS),
]


@pytest.mark.parametrize(("method", "name", "modality"), ONE)
def test_one_client(method, name, modality, tiny_generator):
    toy = Toy(None if method in PAIRED else tiny_generator, method, clients={name: modality})
    before = toy.clients()[name]
    infos = toy.run(2)
    assert toy.federation.missing == []
    assert all(np.isfinite(v) for info in infos for v in info.losses.values() if v is not None)
    after = toy.clients()[name]
    assert any(not np.array_equal(before[k], after[k]) for k in before)


def upload(method: str, samples: int, asked: int) -> int:
    """Bytes from one client for `samples` shared samples, of which FedGEMS asks about `asked`."""
    return {
        "fedmd": 4 * CLASSES * samples,
        "fedgems": 4 * CLASSES * asked,
        "fed-et": 4 * CLASSES * samples,
        "fedmekt": 4 * (WIDTH + 1) * samples,  # with the label, which the generator needs
        "creamfl": 4 * (WIDTH + 1) * samples,
    }[method]


def lesson(method: str, samples: int) -> int:
    """Bytes of what one client is to learn from."""
    return {
        "fedmd": 4 * CLASSES * samples,
        "fedgems": 4 * (CLASSES + 1) * samples,
        "fed-et": 4 * (CLASSES + 1) * samples,
        "fedmekt": 4 * WIDTH * samples,
        "creamfl": 2 * 4 * WIDTH * samples,  # both modalities'
    }[method]


@pytest.mark.parametrize("method", SHARED)
def test_bytes_of_synthetic_rounds_by_hand(method, tiny_generator):
    toy = Toy(tiny_generator, method)
    seen = []
    ask = toy.federation.ask
    toy.federation.ask = lambda verb, said, **how: seen.append((verb, said)) or ask(verb, said, **how)
    (info,) = toy.run(1)
    (probes,) = [messages for verb, messages in seen if verb == "infer"]
    asked = {k: SAMPLES if m.wanted is None else int(m.wanted.sum()) for k, m in probes.items()}
    wanted = sum(0 if m.wanted is None else KEPT for m in probes.values())
    texts = sum(4 + len(text.encode()) for text in info.labels.captions)
    up = sum(upload(method, SAMPLES, asked[k]) + DONE for k in CLIENTS)
    down = 2 * SAMPLES * PICTURE + 2 * texts + wanted + 4 * (KEPT + lesson(method, SAMPLES))
    assert toy.ledger.totals(1) == (up, down)


@pytest.mark.parametrize("method", SHARED)
def test_a_public_set_is_paid_for_once(method, tiny_generator):
    toy = Toy(tiny_generator, method, shared="public", public=10)
    toy.run(2)
    (up, first), (again, later) = toy.ledger.totals(1), toy.ledger.totals(2)
    pairs = toy.server.draw(1, toy.federation)
    assert len(pairs) == 10
    once = 2 * 10 * PICTURE + 2 * sum(4 + len(text.encode()) for text in pairs.texts)
    if method == "fedgems":  # asks about fewer once it knows more
        assert again <= up
        assert first - later == once - 4 * 8  # in place of the samples: how many there were
        return
    label = 0 if method in ("fedmd", "fed-et") else 4 * 10  # without a generator nobody needs labels
    assert up == again == 4 * (upload(method, 10, 10) - label + DONE)
    assert first - later == once - 4 * 8
    assert later == 4 * (8 + 2 + lesson(method, 10))


def test_creamfl_without_contrast_is_the_mean(tiny_generator):
    """Scores so flat that all weigh the same: what the generator hears is the mean of both modalities' means."""
    toy = Toy(tiny_generator, "creamfl", contrast_weight=0.0, weigh_temperature=1e9)
    heard = []
    aggregate = toy.server.aggregate

    def listen(t, federation, samples, opinions):
        verdict = aggregate(t, federation, samples, opinions)
        heard.append((opinions, verdict))
        return verdict

    toy.server.aggregate = listen
    toy.run(1)
    ((opinions, verdict),) = heard
    z = opinions.representations
    images = torch.tensor([m == "image" for m in opinions.modalities])
    mean = (z[images].mean(0) + z[~images].mean(0)) / 2
    assert torch.allclose(verdict.fused, mean[verdict.labels >= 0], atol=1e-5)


def encoder(modality: str) -> int:
    """Parameters of the server's encoder of that modality, which has no head when it is sent."""
    return (PICTURE if modality == "image" else len(words())) * WIDTH + WIDTH


MODALITIES = {"image": ("image",), "text": ("text",), "pair": ("image", "text")}
NAME = 16  # letters that the public set is known by
ROWS = 4 * PAIRS * WIDTH


@pytest.mark.parametrize("method", PAIRED)
def test_bytes_of_public_pairs_by_hand(method):
    """Whole models in half precision at first, then changes in half precision: all weights change."""
    toy = Toy(None, method, clients=ONE_EACH)
    infos = toy.run(2)
    if method == "r-standalone":
        assert toy.ledger.totals() == (0, 0)
        assert [info.formula for info in infos] == [(0, 0)] * 2
        return
    owned = [m for modality in ONE_EACH.values() for m in MODALITIES[modality]]
    texts = sum(4 + len(text.encode()) for text in toy.server.pairs.texts)
    once = sum({"image": PAIRS * PICTURE, "text": texts}[m] for m in owned) + 3 * NAME
    up = 4 * ROWS + 3 * (NAME + 8)
    paper = 2 * ROWS * 3
    lesson = paper + 3 * NAME
    if method.startswith("fedafd"):
        lesson += 2 * sum(map(encoder, owned)) + 3 * (8 + 8 + 8)  # base, version, progress
        paper += 4 * sum(map(encoder, owned))
    first = 3 * NAME if method == "r-fedmd" else lesson  # nobody has said anything yet
    assert toy.ledger.totals(1) == (up + 3 * DONE, once + first)
    assert toy.ledger.totals(2) == (up, lesson)
    assert [info.formula for info in infos] == [(4 * ROWS, paper)] * 2


JOINT = [m for m in CATALOGUE if load_method(m)[0].tasks & {"joint"}]


@pytest.mark.parametrize("method", JOINT)
def test_joint_clients_begin_alike_with_every_method_and_learn(method):
    """What they say before the first round is Standalone's, and nobody fails, whichever kinds he has."""
    from joint import Joint, learned

    module = CATALOGUE[method].item
    toy = Joint(module)
    start = [learned(toy.half(name)) for name in toy.federation.clients]
    for other in start[1:]:
        assert other.keys() == start[0].keys()
        assert all(np.array_equal(v, start[0][k]) for k, v in other.items())
    infos = toy.run(2)
    assert toy.federation.missing == []
    assert all(np.isfinite(v) for info in infos for v in info.losses.values() if v is not None)
    for name, before in zip(toy.federation.clients, start):
        after = learned(toy.half(name))
        assert any(not np.array_equal(v, after[k]) for k, v in before.items())
