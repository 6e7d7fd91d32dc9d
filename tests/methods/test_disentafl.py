"""DisentAFL: the gate, the term that keeps types apart, and who is averaged with whom."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from toy_sites import CLIENTS, SIDE, WIDTH, Linear, Toy, client, same, words

from fedloom.config.models import ModelSettings
from fedloom.federation.messages import Empty
from fedloom.methods.disentafl import (
    DisentAFLAverage,
    DisentAFLSettings,
    DisentAFLUpdate,
    Disentangled,
    mean_adapter,
    overlap,
    wrap_model,
)
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import tokenize

RANK = 4
NUMBERS = 2 * WIDTH * RANK + RANK + WIDTH
LEARNERS = [
    ModelSettings(arch="vit", hidden=16, layers=1, heads=2, patch=6, width=WIDTH),
    ModelSettings(arch="resnet", hidden=16, width=WIDTH),
    ModelSettings(arch="bert", hidden=24, layers=1, heads=2, width=WIDTH),
    ModelSettings(arch="beit", hidden=16, layers=1, heads=2, patch=6, width=WIDTH, tune="adapters", rank=2),
    ModelSettings(arch="pair", hidden=16, layers=1, heads=2, patch=6, width=WIDTH),
]


def toy_of(folder, **more) -> Toy:
    return Toy(folder, "disentafl", **{"rank": RANK, **more})


def sites_of(toy):
    return {name: site.client for name, site in toy.federation._host._hosts.items()}


def sent_in(toy, rounds=1) -> dict:
    """What goes down and up in so many rounds: client -> (message, reply), of the last."""
    seen = {}
    ask = toy.federation.ask

    def listening(verb, messages, **how):
        for reply in ask(verb, messages, **how):
            seen[reply.client] = (messages[reply.client], reply.message)
            yield reply

    toy.federation.ask = listening
    toy.run(rounds)
    toy.federation.ask = ask
    return seen


def learned(types=("all", "modality", "private"), seed=3) -> Disentangled:
    """A dressed toy whose gate and adapters have weights."""
    torch.manual_seed(seed)
    learner = wrap_model(Linear("image"), DisentAFLSettings(types=types, rank=RANK))
    for p in [*learner.adapters.parameters(), *learner.gate.parameters()]:
        torch.nn.init.normal_(p)
    return learner


# ------------------------------------------------------------------------------------------------ gate and adapters


@pytest.mark.parametrize("settings", LEARNERS, ids=lambda s: s.arch)
def test_a_dressed_learner_begins_as_the_bare_one(settings):
    bare = build_client_model(settings, classes=3, image_size=SIDE, tokenizer=words()).eval()
    inputs = {"pixel_values": torch.randn(2, 3, SIDE, SIDE)}
    if settings.arch == "bert":
        inputs = tokenize(words(), ["a red rose", "tall"])
    with torch.no_grad():
        before = bare(**inputs)
        after = wrap_model(bare, DisentAFLSettings(rank=RANK)).eval()
        assert torch.equal(after(**inputs), before)
        z = bare.encode(**inputs)
        assert torch.equal(after.encode(**inputs), z)
        assert torch.equal(after.gate(z).softmax(-1), torch.full((2, 3), 1 / 3))
        assert not after.parts(z).any()


def test_the_mixture_by_plain_loops():
    learner, z = learned(), torch.randn(5, WIDTH)
    w = {k: v.detach().numpy().astype(np.float64) for k, v in learner.state_dict().items()}

    def gelu(x):
        return np.array([0.5 * v * (1 + torch.erf(torch.tensor(v / 2**0.5)).item()) for v in x])

    for row, found in zip(z.double().numpy(), learner.mix(z, learner.parts(z)).detach().numpy()):
        score = np.exp(w["gate.weight"] @ row + w["gate.bias"])
        h = row.copy()
        for g, kind in zip(score / score.sum(), ("all", "modality", "private")):
            a = f"adapters.{kind}"
            inner = gelu(w[f"{a}.down.weight"] @ row + w[f"{a}.down.bias"])
            h += g * (w[f"{a}.up.weight"] @ inner + w[f"{a}.up.bias"])
        assert np.allclose(found, h, atol=1e-4)


def test_shared_adapters_begin_alike_and_private_ones_do_not():
    one, two = (client(k, CLIENTS[k], "disentafl", {"rank": RANK}) for k in ("image-0", "text-0"))
    a, b = one.context.model.adapters, two.context.model.adapters
    for kind in ("all", "modality"):
        assert torch.equal(a[kind].down.weight, b[kind].down.weight)
    assert not torch.equal(a["private"].down.weight, b["private"].down.weight)
    assert not torch.equal(a["all"].down.weight, a["modality"].down.weight)
    again = client("image-0", "image", "disentafl", {"rank": RANK}).context.model.adapters
    assert torch.equal(a["private"].down.weight, again["private"].down.weight)


def test_a_type_named_twice():
    with pytest.raises(ValueError, match="types names one twice: all, all"):
        DisentAFLSettings(types=("all", "all"))
    with pytest.raises(ValueError, match="at least 1"):
        DisentAFLSettings(types=())


def test_export_holds_all_weights(tmp_path):
    from safetensors.torch import load_file

    learner = learned()
    learner.export(tmp_path, ("iris", "rose", "tulip"))
    again = learned(seed=4)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = {"pixel_values": torch.randn(2, 3, SIDE, SIDE)}
    assert torch.equal(learner(**x), again(**x))


# ------------------------------------------------------------------------------------------------------ overlap


def test_overlap_by_hand():
    one, two = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, -5.0]])
    assert overlap(torch.stack([one, two])).item() == pytest.approx((0.5 + 1) / 2)
    third = torch.tensor([[0.0, 3.0], [1.0, 0.0]])  # cos^2 with one: 0, 0; with two: 0.5, 0
    assert overlap(torch.stack([one, two, third])).item() == pytest.approx((0.5 + 1 + 0 + 0 + 0.5 + 0) / 6)
    assert overlap(one[None]).item() == 0


def test_overlap_by_plain_loops():
    parts = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)).double().numpy()
    total, pairs = 0.0, 0
    for a, b in itertools.combinations(parts, 2):
        for x, y in zip(a, b):
            total += (x @ y) ** 2 / ((x @ x) * (y @ y))
            pairs += 1
    assert overlap(torch.from_numpy(parts)).item() == pytest.approx(total / pairs, rel=1e-12)
    scaled = torch.from_numpy(parts) * torch.tensor([1e-3, 1.0, 7.0, -2.0])[:, None, None]
    assert overlap(scaled).item() == pytest.approx(total / pairs, rel=1e-9)


def test_the_gradient_of_the_overlap():
    """Against its closed form: d cos^2(a, b) / da = 2 cos (b / |b| - cos a / |a|) / |a|."""
    a, b = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([[2.0, 0.0]])
    overlap(torch.stack([a, b])).backward()
    assert a.grad.tolist()[0] == pytest.approx([2 * 0.6 * (1 - 0.36) / 5, 2 * 0.6 * (0 - 0.48) / 5])
    parts = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(overlap, parts)


def test_zero_vectors_have_no_overlap_and_no_pull():
    for zeros in ((0,), (0, 1)):
        parts = torch.randn(3, 2, 4)
        parts[list(zeros)] = 0
        parts.requires_grad_()
        overlap(parts).backward()
        assert torch.isfinite(parts.grad).all()
        assert not parts.grad[list(zeros)].any()
    assert overlap(torch.zeros(2, 3, 4)).item() == 0


def test_the_term_keeps_types_apart():
    def left(mu):
        half = client(
            "image-0",
            "image",
            "disentafl",
            {"rank": RANK, "mu": mu, "private_steps": 40, "extra_steps": 0},
        )
        half.fit(Empty(), round=1)
        learner = half.context.model.eval()
        with torch.no_grad():
            return overlap(learner.parts(learner.bare.encode(**half.context.ready(half.context.private)))).item()

    assert left(0.5) < 0.3 * left(0.0)


# ---------------------------------------------------------------------------------------------- who is averaged


def test_the_mean_by_hand():
    one = DisentAFLUpdate({"all": np.array([1.0, 2.0], np.float32)}, 30, 0.0)
    two = DisentAFLUpdate({"all": np.array([5.0, -2.0], np.float32)}, 10, 0.0)
    assert mean_adapter("all", [one, two]).tolist() == [2.0, 1.0]
    assert mean_adapter("all", [one]).dtype == np.float32


def test_each_type_is_averaged_among_its_own_only(tiny_generator):
    toy = toy_of(tiny_generator)
    first = sent_in(toy)
    assert all(type(down) is Empty for down, _ in first.values())
    said = {k: up.adapters for k, (_, up) in first.items()}
    assert all(set(v) == {"all", "modality"} for v in said.values())
    means = {"all": np.mean([v["all"] for v in said.values()], axis=0)}
    for m in ("image", "text"):
        means[m] = np.mean([said[f"{m}-{i}"]["modality"] for i in (0, 1)], axis=0)
    assert not np.allclose(means["image"], means["text"], atol=1e-4)
    for k, (down, _) in sent_in(toy).items():
        assert set(down.adapters) == {"all", "modality"}
        assert np.allclose(down.adapters["all"], means["all"], atol=1e-6)
        assert np.allclose(down.adapters["modality"], means[CLIENTS[k]], atol=1e-6)


def test_what_a_client_is_sent_is_what_it_begins_from():
    half = client("text-0", "text", "disentafl", {"rank": RANK, "private_steps": 0, "extra_steps": 0})
    before = {k: v.clone() for k, v in half.context.model.state_dict().items()}
    sent = {k: np.full(NUMBERS, n, np.float32) for k, n in (("all", 2.0), ("modality", 3.0))}
    back = half.fit(DisentAFLAverage(sent), round=2).adapters
    assert same(dict(back), sent)
    changed = {k for k, v in half.context.model.state_dict().items() if not torch.equal(v, before[k])}
    parts = ("down.weight", "down.bias", "up.weight", "up.bias")
    assert changed == {f"adapters.{kind}.{p}" for kind in ("all", "modality") for p in parts}


def test_everything_is_trained(tiny_generator):
    toy = toy_of(tiny_generator)
    before = toy.clients()
    toy.run(2)
    for name, state in toy.clients().items():
        learner = [k for k in before[name] if k.startswith("context/model/")]
        assert [k for k in learner if np.array_equal(before[name][k], state[k])] == []


def test_bytes_by_hand(tiny_generator):
    toy = toy_of(tiny_generator)
    toy.run(3)
    up = 4 * 2 * NUMBERS + 8 + 8  # two shared adapters, the number of samples, the loss
    assert toy.ledger.totals(round=1) == (4 * up, 0)
    assert toy.ledger.totals(round=2) == (4 * up, 4 * 4 * 2 * NUMBERS)
    fields = {f["name"] for row in toy.ledger.rows() for f in row["fields"]}
    assert fields == {"adapters[all]", "adapters[modality]", "samples", "loss"}


@pytest.mark.parametrize("clients", [["image-0"], ["image-0", "image-1"], ["text-1"]], ids=" ".join)
def test_one_modality_has_no_type_of_its_own(clients, tiny_generator):
    toy = toy_of(tiny_generator, clients={k: CLIENTS[k] for k in clients})
    assert toy.settings.types == ("all", "private")
    for down, up in sent_in(toy, 2).values():
        assert set(down.adapters) == set(up.adapters) == {"all"}
    assert toy.federation.missing == []


def test_nothing_is_shared_where_all_is_private(tiny_generator):
    toy = toy_of(tiny_generator, types=("private",))
    toy.run(2)
    assert toy.ledger.totals() == (2 * 4 * (8 + 8), 0)
    assert toy.server.state()[0] == {}


def test_same_bits_in_any_order_and_after_a_stop(tiny_generator):
    whole, backwards = (
        toy_of(tiny_generator),
        toy_of(tiny_generator, clients=dict(reversed(CLIENTS.items()))),
    )
    whole.run(3)
    backwards.run(3)
    assert same(whole.server.state()[0], backwards.server.state()[0])
    broken, resumed = (toy_of(tiny_generator) for _ in range(2))
    broken.run(2)
    resumed.server.load_state(*broken.server.state())
    for name, half in sites_of(resumed).items():
        half.load_state(*broken.half(name).state())
    resumed.federation.round = 2
    resumed.run(1)
    assert same(whole.server.state()[0], resumed.server.state()[0])
    assert all(same(whole.clients()[k], resumed.clients()[k]) for k in CLIENTS)


# ------------------------------------------------------------------------------------------------- what goes wrong


def test_one_that_fails_has_no_part_and_later_gets_the_newest(tiny_generator):
    toy = toy_of(tiny_generator, broken={"image-1": {"fault": "raise fit"}})
    seen = sent_in(toy)
    assert {m.client for m in toy.federation.missing} == {"image-1"}
    others = [seen[k][1].adapters["all"] for k in ("image-0", "text-0", "text-1")]
    assert np.allclose(toy.server.averages["all"], np.mean(others, axis=0), atol=1e-6)
    assert np.array_equal(toy.server.averages["image"], seen["image-0"][1].adapters["modality"])
    newest = {"all": toy.server.averages["all"], "modality": toy.server.averages["image"]}
    down, _ = sent_in(toy)["image-1"]
    assert same(dict(down.adapters), newest)


def test_weights_that_are_not_finite_are_named(tiny_generator):
    toy = toy_of(tiny_generator)
    with torch.no_grad():
        sites_of(toy)["text-1"].context.model.bare.head.bias.fill_(float("nan"))
    toy.run(1)
    (lost,) = toy.federation.missing
    assert (lost.client, lost.round) == ("text-1", 1)
    assert "client text-1" in lost.detail
    assert "nan" in lost.detail
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values())


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {**a, "all": a["all"][1:]},
        lambda a: {**a, "private": a["all"]},
        lambda a: {"all": a["all"]},
        lambda a: {**a, "all": a["all"] * np.float32("nan")},
    ],
    ids=["short", "one more", "one less", "not a number"],
)
def test_a_reply_that_does_not_fit_changes_nothing(change, tiny_generator):
    toy, without = toy_of(tiny_generator), toy_of(tiny_generator, broken={"text-0": {"fault": "raise fit"}})
    half = sites_of(toy)["text-0"]
    fit = half.fit

    def spoilt(message, *, round):
        said = fit(message, round=round)
        return dataclasses.replace(said, adapters=change(dict(said.adapters)))

    half.fit = spoilt
    toy.run(1)
    without.run(1)
    assert same(toy.server.state()[0], without.server.state()[0])


def test_an_adapter_that_it_does_not_have_is_refused():
    half = client("image-0", "image", "disentafl", {"rank": RANK, "types": ("all", "private")})
    for kind, numbers in (("modality", NUMBERS), ("private", NUMBERS), ("all", NUMBERS + 1)):
        with pytest.raises(ValueError, match=f"image-0 was sent an adapter '{kind}'"):
            half.fit(DisentAFLAverage({kind: np.zeros(numbers, np.float32)}), round=1)
