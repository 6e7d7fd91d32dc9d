"""FedMBridge: architecture graphs, the hypernetwork and its step, and what crosses the wire."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_disentafl import LEARNERS, sent_in, sites_of
from toy_sites import CLIENTS, SIDE, WIDTH, Toy, client, same, words

from fedloom.config.models import ModelSettings
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.methods.context import ClientContext
from fedloom.methods.fedmbridge import (
    FedMBridgeAdapters,
    FedMBridgeServer,
    FedMBridgeSettings,
    follow,
    wrap_model,
)
from fedloom.models.clients.adapters import put
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import tokenize
from fedloom.models.hypernetwork import NODE_KINDS, Graph, Hypernetwork, architecture

SIZES = {"rank": 3, "widest": 24}
NUMBERS = 2 * WIDTH * 3 + 3 + WIDTH  # of a toy's one adapter
PICTURE, TEXT, ATTENTION, CONVOLUTION, MAP, OUTPUT = range(len(NODE_KINDS))


def toy_of(folder, **more) -> Toy:
    return Toy(folder, "fedmbridge", **{**SIZES, **more})


def graph_of(kinds, widths, rank=3, widest=24) -> Graph:
    return Graph(np.array(kinds, np.int32), np.array(widths, np.int32), rank, widest)


def hypernetwork_of(seed=0, lively=False) -> Hypernetwork:
    """`lively`: also of what is zero at first."""
    torch.manual_seed(seed)
    s = FedMBridgeSettings(**SIZES)
    made = Hypernetwork(s.rank, s.widest, s.latent, s.code, s.hidden)
    if lively:
        for p in made.last.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return made


TWO = {  # of unlike depth and width
    "a": graph_of([PICTURE, CONVOLUTION, CONVOLUTION, OUTPUT], [4, 4, 8, 8]),
    "b": graph_of([TEXT, ATTENTION, OUTPUT], [6, 6, 8]),
}

# ---------------------------------------------------------------------------------------------------------- graphs


def test_a_chain_by_hand():
    graph = graph_of([PICTURE, ATTENTION, ATTENTION, OUTPUT], [16, 16, 16, 8])
    third = 1 / 3
    assert torch.allclose(
        graph.mean,
        torch.tensor([[0.5, 0.5, 0, 0], [third] * 3 + [0], [0] + [third] * 3, [0, 0, 0.5, 0.5]]),
    )
    hot = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
    assert torch.equal(graph.features[:, :6], hot)
    assert graph.features[:, 6].tolist() == pytest.approx([0.4, 0.4, 0.4, 0.3])  # log2(w) / 10
    assert graph.features[:, 7].tolist() == pytest.approx([0, third, 2 * third, 1])
    assert graph.blocks == [(1, 16), (2, 16)]
    assert graph.numbers == 2 * (2 * 3 * 16 + 3 + 16)


def test_two_towers_meet_at_the_output():
    graph = graph_of([PICTURE, ATTENTION, TEXT, ATTENTION, ATTENTION, OUTPUT], [8] * 6)
    near = (graph.mean > 0).int().tolist()
    assert near == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 1, 0, 0, 1, 1],
    ]
    assert graph.features[:, 7].tolist() == pytest.approx([0, 0.5, 0, 1 / 3, 2 / 3, 1])
    assert [v for v, _ in graph.blocks] == [1, 3, 4]


@pytest.mark.parametrize(
    ("kinds", "widths", "why"),
    [
        ([PICTURE, OUTPUT], [8, 8], "2 kinds and 2 widths"),
        ([PICTURE, MAP, OUTPUT], [8, 8], "3 kinds and 2 widths"),
        ([MAP, MAP, OUTPUT], [8, 8, 8], "expected stems, blocks, and an output"),
        ([PICTURE, MAP, MAP], [8, 8, 8], "expected stems, blocks, and an output"),
        ([PICTURE, TEXT, OUTPUT], [8, 8, 8], "expected stems, blocks, and an output"),
        ([PICTURE, 9, OUTPUT], [8, 8, 8], "expected stems, blocks, and an output"),
        ([PICTURE, -1, OUTPUT], [8, 8, 8], "expected stems, blocks, and an output"),
        ([PICTURE, OUTPUT, OUTPUT], [8, 8, 8], "expected stems, blocks, and an output"),
        ([PICTURE, MAP, OUTPUT], [8, 0, 8], "allowed: 1 to settings.widest = 24"),
        ([PICTURE, MAP, OUTPUT], [8, 25, 8], "allowed: 1 to settings.widest = 24"),
    ],
)
def test_no_architecture(kinds, widths, why):
    with pytest.raises(BadInput, match=why):
        graph_of(kinds, widths)


SEEN = {
    "vit": ([PICTURE, ATTENTION, OUTPUT], [16, 16, WIDTH]),
    "resnet": ([PICTURE, CONVOLUTION, CONVOLUTION, CONVOLUTION, OUTPUT], [4, 4, 8, 16, WIDTH]),
    "bert": ([TEXT, ATTENTION, OUTPUT], [24, 24, WIDTH]),
    "beit": ([PICTURE, ATTENTION, ATTENTION, OUTPUT], [24, 24, 24, WIDTH]),
    "distilbert": ([TEXT, ATTENTION, OUTPUT], [16, 16, WIDTH]),
    "roberta": ([TEXT, ATTENTION, OUTPUT], [16, 16, WIDTH]),
    "pair": ([PICTURE, ATTENTION, TEXT, ATTENTION, OUTPUT], [16, 16, 16, 16, WIDTH]),
}
MODELS = [
    *(s for s in LEARNERS if s.tune == "all"),
    ModelSettings(arch="beit", hidden=24, layers=2, heads=2, patch=6, width=WIDTH),
    ModelSettings(arch="distilbert", hidden=16, layers=1, heads=2, width=WIDTH),
    ModelSettings(arch="roberta", hidden=16, layers=1, heads=2, width=WIDTH),
]


@pytest.mark.parametrize("settings", MODELS, ids=lambda s: s.arch)
def test_adapters_for_every_architecture(settings):
    """The graph says what the model is; what is generated fits it, and changes nothing at first."""
    bare = build_client_model(settings, classes=3, image_size=SIDE, tokenizer=words()).eval()
    text = settings.arch in ("bert", "distilbert", "roberta")
    inputs = {"pixel_values": torch.randn(2, 3, SIDE, SIDE)}
    if text:
        inputs = tokenize(words(), ["a red rose", "tall"])
    nothing = ImageSet(np.zeros((0, SIDE, SIDE, 3), np.uint8), np.zeros(0, np.int64))
    site = ClientContext(
        name="one",
        modality="image",
        model=bare,
        tokenizer=None,
        private=nothing,
        test=nothing,
        seed=0,
    )
    site.modality = "text" if text else "image"
    with torch.no_grad():
        before = bare(**inputs)
        site.attach(lambda learner: wrap_model(learner, FedMBridgeSettings(**SIZES)))
        kinds, widths = architecture(site.model.bare, site.modality)
        assert (kinds.tolist(), widths.tolist()) == SEEN[settings.arch]
        graph = Graph(kinds, widths, 3, 24)
        adapters = site.model.adapters
        theta = hypernetwork_of()(graph, torch.randn(16))
        assert theta.shape == (graph.numbers,) == (sum(p.numel() for p in adapters.parameters()),)
        put(adapters, theta)
        assert torch.equal(site.model.eval()(**inputs), before)
        assert not any(a.up.weight.any() or a.up.bias.any() for a in adapters)
        assert all(a.down.weight.all() and a.down.bias.all() for a in adapters)
        put(adapters, hypernetwork_of(lively=True)(graph, torch.randn(16)))
        assert not torch.equal(site.model(**inputs), before)


def test_a_learner_with_adapters_of_its_own():
    learner = build_client_model(next(s for s in LEARNERS if s.tune == "adapters"), classes=3, image_size=SIDE)
    with pytest.raises(BadInput, match="tune = 'adapters' leaves no place"):
        wrap_model(learner, FedMBridgeSettings())


# ---------------------------------------------------------------------------------------------------- hypernetwork


def test_the_hypernetwork_by_plain_loops():
    made, code = hypernetwork_of(lively=True), torch.randn(16)
    w = {k: v.detach().numpy().astype(np.float64) for k, v in made.state_dict().items()}
    graph, kinds, widths = TWO["a"], (PICTURE, CONVOLUTION, CONVOLUTION, OUTPUT), (4, 4, 8, 8)
    h = []
    for v, (kind, width) in enumerate(zip(kinds, widths)):
        h.append(np.array([float(kind == k) for k in range(6)] + [np.log2(width) / 10, v / 3]))
    for layer in ("near", "far"):
        means = [np.mean(h[max(v - 1, 0) : v + 2], axis=0) for v in range(4)]
        h = [np.maximum(w[f"{layer}.weight"] @ m + w[f"{layer}.bias"], 0) for m in means]
    expected = []
    for v, width in ((1, 4), (2, 8)):
        inner = w["hidden.weight"] @ np.concatenate([h[v], code.double().numpy()]) + w["hidden.bias"]
        inner = np.array([0.5 * x * (1 + torch.erf(torch.tensor(x / 2**0.5)).item()) for x in inner])
        out = list(w["last.weight"] @ inner + w["last.bias"])
        down, out = np.reshape(out[: 3 * 24], (3, 24)), out[3 * 24 :]
        down_bias, out = out[:3], out[3:]
        up, up_bias = np.reshape(out[: 24 * 3], (24, 3)), out[24 * 3 :]
        expected += [*down[:, :width].ravel(), *down_bias, *up[:width].ravel(), *up_bias[:width]]
    assert np.allclose(made(graph, code).detach().numpy(), expected, atol=1e-5)


class Product(torch.nn.Module):
    """A linear hypernetwork: theta = W c."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, graph, code):
        return self.weight @ code


def test_a_step_by_hand():
    made = Product([[1.0, 0.0], [0.0, 1.0]])
    codes = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.0, 1.0]), "away": torch.tensor([5.0, 5.0])}
    moved = {"a": torch.tensor([1.0, -1.0]), "b": torch.tensor([2.0, 0.0])}
    follow(made, dict.fromkeys(codes), codes, moved, 0.1, 0.5)
    # W + 0.1 / 2 (Delta_a c_a^T + Delta_b c_b^T); c + 0.5 W^T Delta
    assert torch.allclose(made.weight, torch.tensor([[1.05, 0.2], [-0.05, 0.9]]))
    assert codes["a"].tolist() == [1.5, 1.5]
    assert codes["b"].tolist() == [1.0, 1.0]
    assert codes["away"].tolist() == [5.0, 5.0]


def test_a_small_step_of_a_linear_one_comes_nearer():
    """The specification's cheap test."""
    torch.manual_seed(2)
    made = Product(torch.randn(5, 3).tolist())
    code = {"a": torch.randn(3)}
    theta = made(None, code["a"]).detach()
    trained = theta + torch.randn(5)
    for eta, eta_code in ((0.01, 0.0), (0.0, 0.01), (0.01, 0.01)):
        one, own = Product(made.weight.tolist()), {"a": code["a"].clone()}
        follow(one, {"a": None}, own, {"a": trained - theta}, eta, eta_code)
        after = one(None, own["a"]).detach()
        assert (trained - after).norm() < (trained - theta).norm()


def test_a_step_by_jacobians():
    made, draws = hypernetwork_of(lively=True), torch.Generator().manual_seed(1)
    codes = {k: torch.randn(16, generator=draws) for k in TWO}
    moved = {k: torch.randn(g.numbers, generator=draws) for k, g in TWO.items()}
    names = [n for n, _ in made.named_parameters()]
    before = tuple(p.detach().clone() for p in made.parameters())
    expected = [p.clone() for p in before]
    expected_codes = {}
    for k, graph in TWO.items():

        def theta(*given, graph=graph):
            return torch.func.functional_call(made, dict(zip(names, given)), (graph, given[-1]))

        *by_phi, by_code = torch.autograd.functional.jacobian(theta, (*before, codes[k]))
        for n, j in enumerate(by_phi):
            expected[n] += 0.05 / 2 * torch.tensordot(moved[k], j, dims=1)
        expected_codes[k] = codes[k] + 0.2 * by_code.T @ moved[k]
    follow(made, TWO, codes, moved, 0.05, 0.2)
    for p, value in zip(made.parameters(), expected):
        assert torch.allclose(p, value, atol=1e-5)
    for k, value in expected_codes.items():
        assert torch.allclose(codes[k], value, atol=1e-5)
    assert all(p.grad is None for p in made.parameters())


def test_a_small_step_moves_every_client_towards_what_it_trained():
    made = hypernetwork_of()
    codes = {k: torch.randn(16) for k in TWO}
    before = {k: made(TWO[k], codes[k]).detach() for k in TWO}
    trained = {k: v + 0.1 * torch.randn_like(v) for k, v in before.items()}
    follow(made, TWO, codes, {k: trained[k] - before[k] for k in TWO}, 0.01, 0.01)
    for k in TWO:
        assert (trained[k] - made(TWO[k], codes[k])).norm() < (trained[k] - before[k]).norm()


def test_nobody_answered():
    made = hypernetwork_of()
    before = [p.clone() for p in made.parameters()]
    follow(made, {}, {}, {}, 1.0, 1.0)
    assert all(torch.equal(p, b) for p, b in zip(made.parameters(), before))


# --------------------------------------------------------------------------------------------------------- rounds


def test_what_is_sent_is_what_the_hypernetwork_makes(tiny_generator):
    toy = toy_of(tiny_generator)
    theta = {}
    first = sent_in(toy)
    for k, (down, up) in first.items():
        assert not np.array_equal(down.values, up.values)
        half = sites_of(toy)[k].context.model.adapters
        assert np.array_equal(torch.nn.utils.parameters_to_vector(half.parameters()).detach().numpy(), up.values)
        theta[k] = toy.server.adapters(k).numpy()
        assert not np.array_equal(theta[k], down.values)
    for k, (down, _) in sent_in(toy).items():
        assert np.array_equal(down.values, theta[k])


def test_the_rounds_go_where_training_went(tiny_generator):
    toy = toy_of(tiny_generator, eta=0.01, eta_code=0.01)
    for k, (down, up) in sent_in(toy).items():
        apart = np.linalg.norm(up.values - down.values)
        assert np.linalg.norm(up.values - toy.server.adapters(k).numpy()) < apart


def test_everything_is_trained(tiny_generator):
    toy = toy_of(tiny_generator)
    before = toy.clients()
    assert toy.run(2)[1].losses["clients"] > 0
    for name, state in toy.clients().items():
        learner = [k for k in before[name] if k.startswith("context/model/")]
        assert [k for k in learner if np.array_equal(before[name][k], state[k])] == []


def test_bytes_by_hand(tiny_generator):
    toy = toy_of(tiny_generator)
    toy.run(3)
    theta = 4 * NUMBERS
    assert toy.ledger.totals(round=1) == (
        4 * (theta + 8 + 2 * 4 * 3),
        4 * theta,
    )  # 3 nodes: stem, block, output
    assert toy.ledger.totals(round=2) == (4 * (theta + 8), 4 * theta)
    fields = {(r["verb"], f["name"]) for r in toy.ledger.rows() for f in r["fields"]}
    assert fields == {("describe", "kinds"), ("describe", "widths"), ("fit", "values"), ("fit", "loss")}


@pytest.mark.parametrize("clients", [["text-0"], ["image-0", "image-1"]], ids=" ".join)
def test_few_clients(clients, tiny_generator):
    toy = toy_of(tiny_generator, clients={k: CLIENTS[k] for k in clients})
    toy.run(2)
    assert toy.federation.missing == []
    assert sorted(toy.server.codes) == clients


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
    assert same(resumed.server.state()[0], broken.server.state()[0])
    for name, half in sites_of(resumed).items():
        half.load_state(*broken.half(name).state())
    resumed.federation.round = 2
    resumed.run(1)
    assert {row["verb"] for row in resumed.ledger.rows()} == {"fit"}  # nobody is asked again what it is
    assert same(whole.server.state()[0], resumed.server.state()[0])
    assert all(same(whole.clients()[k], resumed.clients()[k]) for k in CLIENTS)


def test_a_code_depends_on_the_name_alone(tiny_generator):
    all_of_them, one = toy_of(tiny_generator), toy_of(tiny_generator, clients={"text-1": "text"})
    for toy in (all_of_them, one):
        toy.server._meet(toy.federation)
    assert torch.equal(all_of_them.server.codes["text-1"], one.server.codes["text-1"])
    assert not torch.equal(all_of_them.server.codes["text-1"], all_of_them.server.codes["text-0"])


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_one_that_is_away_keeps_its_code(tiny_generator):
    toy = toy_of(tiny_generator, broken={"image-1": {"fault": "raise fit"}})
    toy.server._meet(toy.federation)
    before = {k: v.clone() for k, v in toy.server.codes.items()}
    toy.run(1)
    assert {m.client for m in toy.federation.missing} == {"image-1"}
    unchanged = {k for k, v in toy.server.codes.items() if torch.equal(v, before[k])}
    assert unchanged == {"image-1"}


def test_one_that_joins_late_is_asked_when_it_comes(tiny_generator):
    toy = toy_of(tiny_generator, broken={"text-0": {"fault": "raise describe"}})
    half = sites_of(toy)["text-0"]
    toy.run(1)
    assert "text-0" not in toy.server.codes
    del half.describe  # it is well again
    toy.run(1)
    assert "text-0" in toy.server.codes
    asked = [(r["round"], r["client"]) for r in toy.ledger.rows() if r["verb"] == "describe" and r["direction"] == "up"]
    assert sorted(asked) == [(1, "image-0"), (1, "image-1"), (1, "text-1"), (2, "text-0")]


def test_nobody_says_what_it_is(tiny_generator):
    toy = toy_of(tiny_generator, broken={k: {"fault": "raise describe"} for k in CLIENTS})
    before = toy.server.state()[0]
    assert toy.run(1)[0].losses["clients"] is None
    assert same(toy.server.state()[0], before)


def test_one_too_wide_is_left_out_and_named(tiny_generator, caplog):
    toy = toy_of(tiny_generator, widest=WIDTH - 1)
    toy.run(1)
    assert not toy.server.codes
    assert f"round 1: image-0 is left out: blocks of widths {[WIDTH] * 3}" in caplog.text
    assert f"settings.widest = {WIDTH - 1}" in caplog.text


@pytest.mark.parametrize("change", [lambda v: v[1:], lambda v: v * np.float32("nan")], ids=["short", "not a number"])
def test_a_reply_that_does_not_fit_changes_nothing(change, tiny_generator):
    toy, without = toy_of(tiny_generator), toy_of(tiny_generator, broken={"text-0": {"fault": "raise fit"}})
    half = sites_of(toy)["text-0"]
    fit = half.fit

    def spoilt(message, *, round):
        said = fit(message, round=round)
        return dataclasses.replace(said, values=change(said.values))

    half.fit = spoilt
    toy.run(1)
    without.run(1)
    assert same(toy.server.state()[0], without.server.state()[0])


def test_weights_that_are_not_finite_are_named(tiny_generator):
    toy = toy_of(tiny_generator)
    with torch.no_grad():
        sites_of(toy)["text-1"].context.model.bare.head.bias.fill_(float("nan"))
    toy.run(1)
    (lost,) = toy.federation.missing
    assert (lost.client, lost.round, lost.verb) == ("text-1", 1, "fit")
    assert all(np.isfinite(v).all() for v in toy.server.state()[0].values())


def test_adapters_of_another_architecture_are_refused():
    half = client("image-0", "image", "fedmbridge", SIZES)
    with pytest.raises(ValueError, match=f"image-0 was sent 7 numbers for adapters of {NUMBERS}"):
        half.fit(FedMBridgeAdapters(np.zeros(7, np.float32)), round=1)


def test_a_quorum_of_all_holds_where_fewer_are_known(tiny_generator):
    toy = toy_of(tiny_generator, broken={"text-0": {"fault": "raise describe"}})
    tools = dataclasses.replace(toy.server.context, quorum=4)
    toy.server = FedMBridgeServer(tools, toy.settings)
    toy.run(1)
    assert sorted(toy.server.codes) == ["image-0", "image-1", "text-1"]
