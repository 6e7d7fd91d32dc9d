"""The stored MobileNet beside a slow reference, small and real, and files that are spoilt."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedloom.errors import BadInput
from fedloom.models.clients.mobilenet import load_mobilenet
from fedloom.models.pictures import to_float
from reference.mobilenet import forward
from tiny_mobilenet import pictures, tiny, write

DATA = Path(os.environ.get("FEDLOOM_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))


# ------------------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (9, 6), (1, 1)])
def test_network_equals_slow_reference(tmp_path: Path, version: int, shape: tuple[int, int]) -> None:
    stored = write(tmp_path / "tiny", *tiny(version))
    net, images = load_mobilenet(f"{stored}.npz"), pictures(3, *shape)
    features = net(to_float(images))
    want = [forward(*tiny(version), picture) for picture in images]
    assert features.shape == (3, net.features)
    np.testing.assert_allclose(features, np.stack([f for f, _ in want]), atol=1e-4)
    np.testing.assert_allclose(net.logits(features), np.stack([s for _, s in want]), atol=1e-4)


def test_loading_draws_nothing(stored: Path) -> None:
    before = torch.random.get_rng_state()
    load_mobilenet(stored)
    assert torch.equal(before, torch.random.get_rng_state())


def test_network_is_frozen_and_not_in_the_state(stored: Path) -> None:
    net = load_mobilenet(stored)
    assert not net.train().training
    assert not list(net.parameters())
    assert not net.state_dict()
    assert (net.name, net.side, net.features, net.classes) == ("tiny_0.5_16", 16, 64, 5)


def _no_file(prefix: Path) -> None:
    Path(f"{prefix}.json").unlink()


def _cut(prefix: Path) -> None:
    file = Path(f"{prefix}.npz")
    file.write_bytes(file.read_bytes()[:200])


def _no_json(prefix: Path) -> None:
    Path(f"{prefix}.json").write_text("{")


def _no_weight(prefix: Path) -> None:
    graph, arrays = tiny()
    del arrays["op04.bias"]
    write(prefix, graph, arrays)


def _misfit(prefix: Path) -> None:
    graph, arrays = tiny()
    arrays["op02.weight"] = arrays["op02.weight"][:, :7]
    write(prefix, graph, arrays)


def _strange(prefix: Path) -> None:
    graph, arrays = tiny()
    graph["graph"][3] = {"op": "MUL", "inputs": [12, 10], "output": 13}
    write(prefix, graph, arrays)


def _valid(prefix: Path) -> None:
    graph, arrays = tiny()
    graph["graph"][4]["padding"] = "VALID"
    write(prefix, graph, arrays)


def _fewer(prefix: Path) -> None:
    graph, arrays = tiny()
    write(prefix, {**graph, "graph": graph["graph"][:23] + graph["graph"][27:]}, arrays)


def _late_shortcut(prefix: Path) -> None:
    graph, arrays = tiny(2)
    first = [op["op"] for op in graph["graph"]].index("ADD")
    graph["graph"][first : first + 2] = reversed(graph["graph"][first : first + 2])
    write(prefix, graph, arrays)


def _linear(prefix: Path) -> None:
    graph, arrays = tiny()
    graph["graph"][2]["act"] = 0
    write(prefix, graph, arrays)


def _no_pool(prefix: Path) -> None:
    graph, arrays = tiny()
    write(prefix, {**graph, "graph": graph["graph"][:5]}, arrays)


def _no_graph(prefix: Path) -> None:
    Path(f"{prefix}.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_file, "no such file"),
        (_cut, ""),
        (_no_json, "Expecting"),
        (_no_weight, "'op04.bias' is missing"),
        (_misfit, r"op02.weight is .*\(8, 7, 1, 1\)\) with 8 biases, MobileNetV1Model .*\(8, 8, 1, 1\)\)"),
        (_strange, "operation MUL"),
        (_valid, "'VALID'"),
        (_fewer, "23 operations before the pooling, MobileNetV1Model of these widths has 27"),
        (_late_shortcut, "operation CONV_2D is not where MobileNetV2Model of these widths has it"),
        (_linear, "'SAME', 0, "),
        (_no_pool, "AVERAGE_POOL_2D"),
        (_no_graph, ""),
    ],
)
def test_spoilt_files_are_named(stored: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(stored)
    with pytest.raises(BadInput, match=f"MobileNet .*tiny_0.5_16.*{said}") as caught:
        load_mobilenet(stored)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ the real weights


def real(name: str) -> Path:
    prefix = DATA / "weights" / name
    if not Path(f"{prefix}.npz").is_file():
        pytest.skip(f"real weights not found: {prefix}.npz (set FEDLOOM_TEST_DATA)")
    return prefix


@pytest.mark.parametrize("name", ["mobilenet_v1_0.5_160", "mobilenet_v2_1.0_224"])
def test_real_network_equals_slow_reference(name: str) -> None:
    prefix, (picture,) = real(name), pictures(1, 45, 38)
    graph, arrays = json.loads(Path(f"{prefix}.json").read_text()), dict(np.load(f"{prefix}.npz"))
    net = load_mobilenet(prefix)
    features = net(to_float(picture[None]))
    want_features, want_logits = forward(graph, arrays, picture)
    np.testing.assert_allclose(features[0], want_features, atol=1e-4)
    np.testing.assert_allclose(net.logits(features)[0], want_logits, atol=1e-4)


def test_real_network_knows_an_admiral() -> None:
    import matplotlib as mpl

    prefix = real("mobilenet_v2_1.0_224")
    names = (prefix.parent / "imagenet_labels.txt").read_text().splitlines()
    photograph = Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    net = load_mobilenet(prefix)
    side = photograph.width
    square = photograph.crop((0, 0, side, side)).resize((net.side, net.side))
    chances = net.logits(net(to_float(np.array(square)[None]))).softmax(1)[0]
    assert names[int(chances.argmax())] == "military uniform"
    assert chances.max() > 0.5
