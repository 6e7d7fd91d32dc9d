"""FedMBridge's architecture graphs, the hypernetwork and its step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fedmbridge_toys import SIZES
from test_disentafl import LEARNERS
from toy_sites import SIDE, WIDTH, words

from fedloom.config.models import ModelSettings
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.methods.context import ClientContext
from fedloom.methods.fedmbridge import FedMBridgeSettings, follow, wrap_model
from fedloom.models.clients.adapters import put
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.text import tokenize
from fedloom.models.hypernetwork import NODE_KINDS, Graph, Hypernetwork, architecture

PICTURE, TEXT, ATTENTION, CONVOLUTION, MAP, OUTPUT = range(len(NODE_KINDS))


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
