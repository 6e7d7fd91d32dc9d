"""The stored MobileNet beside a slow reference, and the learner that stands on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fedloom.config import ClientGroup, Config
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.experiment.client_builder import features_once
from fedloom.methods.base import Client
from fedloom.methods.context import ClientContext
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.mobilenet import FeatureClientModel, load_exported, load_mobilenet
from fedloom.models.pictures import to_float
from reference.mobilenet import forward

DATA = Path(os.environ.get("FEDLOOM_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
CLASSES, WIDTH, SIDE = 3, 8, 32


def convolution(n: int, kind: str, stride: int, act: int, inputs: int, output: int) -> dict[str, Any]:
    names = {"weight": f"op{n:02}.weight", "bias": f"op{n:02}.bias", "padding": "SAME"}
    return {"op": kind, "inputs": [inputs], "output": output, "stride": stride, "act": act, **names}


def tiny(version: int = 1) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The smallest MobileNet of a version, as it is stored: F = 64 or 1280."""
    last, expanded = (64, 0) if version == 1 else (1280, 48)
    # outputs, inputs, kind, stride, activation
    shapes: list[tuple[int, int, str, int, int]] = [(8, 3, "CONV_2D", 2, 3)]
    adds = []  # after which convolutions
    if version == 1:
        widths = [max(depth // 16, 8) for depth in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
        for before, after, stride in zip(widths, widths[1:], [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]):
            shapes += [(before, 1, "DEPTHWISE_CONV_2D", stride, 3), (after, before, "CONV_2D", 1, 3)]
    else:
        shapes += [(8, 1, "DEPTHWISE_CONV_2D", 1, 3), (8, 8, "CONV_2D", 1, 0)]
        for n, stride in enumerate([2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]):
            out = 16 if n == 15 else 8
            shapes += [(expanded, 8, "CONV_2D", 1, 3), (expanded, 1, "DEPTHWISE_CONV_2D", stride, 3)]
            shapes += [(out, expanded, "CONV_2D", 1, 0)]
            adds += [len(shapes) - 1] * (stride == 1 and out == 8)
        shapes += [(last, 16, "CONV_2D", 1, 3)]
    rng, graph, arrays = np.random.default_rng(0), [], {}
    at = block = 7  # the tensors that the next operation, and the next shortcut, begin with
    for n, (out, inputs, kind, stride, act) in enumerate([*shapes, (5, last, "CONV_2D", 1, 0)]):
        if n == len(shapes):
            graph.append({"op": "AVERAGE_POOL_2D", "inputs": [at], "output": 200})
            at = 200
        side = 1 if kind == "CONV_2D" and n else 3
        graph.append(convolution(n, kind, stride, act, at, 10 + n))
        arrays[f"op{n:02}.weight"] = rng.normal(0, 2 / np.sqrt(inputs * side**2), (out, inputs, side, side))
        arrays[f"op{n:02}.bias"] = rng.normal(0, 0.1, out)
        at = 10 + n
        if n in adds:
            graph.append({"op": "ADD", "inputs": [at, block], "output": 100 + n})
            at = 100 + n
        if version == 2 and act == 0:
            block = at
    graph += [{"op": kind, "inputs": [at + i], "output": at + i + 1} for i, kind in enumerate(["RESHAPE", "SOFTMAX"])]
    head = {"input_size": 16, "input_scale": 1 / 128, "input_zero_point": 128, "input_tensor": 7}
    return {**head, "graph": graph}, {key: value.astype(np.float16) for key, value in arrays.items()}


def write(prefix: Path, graph: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    np.savez(f"{prefix}.npz", **arrays)
    Path(f"{prefix}.json").write_text(json.dumps(graph))
    return prefix


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny_0.5_16", *tiny())


def pictures(n: int, height: int = 16, width: int = 16, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def learner_on(stored: Path, seed: int = 0) -> FeatureClientModel:
    torch.manual_seed(seed)
    return FeatureClientModel(load_mobilenet(stored), CLASSES, WIDTH, SIDE)


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


# ------------------------------------------------------------------------------------------------ the learner


def test_only_projector_and_head_learn(stored: Path) -> None:
    learner = learner_on(stored).train()
    before = {k: v.clone() for k, v in learner.trunk.named_buffers()}
    assert not learner.trunk.training
    assert {name.split(".")[0] for name in learner.state_dict()} == {"projector", "head"}
    assert {name for name, _ in learner.named_parameters()} == set(learner.state_dict())
    optimizer = torch.optim.SGD(learner.parameters(), 0.1)
    loss = F.cross_entropy(learner(pixel_values=to_float(pictures(6))), torch.arange(6) % CLASSES)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.parameters())
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in learner.trunk.named_buffers())


def test_learner_is_head_of_representation(stored: Path) -> None:
    learner, x = learner_on(stored), to_float(pictures(4))
    z = learner.encode(pixel_values=x)
    assert z.shape == (4, WIDTH)
    assert torch.equal(learner.classify(z), learner(pixel_values=x))
    assert learner.head.in_features == WIDTH


def test_state_makes_the_same_learner_again(stored: Path) -> None:
    one, other, x = learner_on(stored, 0), learner_on(stored, 1), to_float(pictures(4))
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("side", [16, 32, 48])
def test_pictures_are_brought_to_the_side(stored: Path, side: int) -> None:
    learner, x = learner_on(stored), to_float(pictures(2, side, side))
    resized = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=side > SIDE)
    torch.testing.assert_close(learner.frozen_features(x), learner.trunk(resized))


def test_pictures_do_not_see_one_another(stored: Path) -> None:
    learner, x = learner_on(stored), to_float(pictures(70))
    torch.testing.assert_close(learner.encode(x), torch.cat([learner.encode(p) for p in x.split(1)]))


def test_export_loads_with_the_same_logits(stored: Path, tmp_path: Path) -> None:
    learner, x, names = learner_on(stored).eval(), to_float(pictures(4)), ("oak", "elm", "yew")
    learner.export(tmp_path / "export", names)
    again, said = load_exported(tmp_path / "export", stored)
    assert said == names
    assert torch.equal(again(x), learner(x))
    assert "tiny_0.5_16" in (tmp_path / "export" / "README.md").read_text()
    graph, arrays = tiny()
    arrays["op00.bias"] += 1
    with pytest.raises(BadInput, match=r"trained on tiny_0\.5_16"):
        load_exported(tmp_path / "export", write(tmp_path / "other", graph, arrays))


def test_a_site_trains_it_and_takes_it_up_again(stored: Path) -> None:
    labels = np.arange(24) % CLASSES
    images = (pictures(24) // 4 + 60 * labels[:, None, None, None]).astype(np.uint8)

    def client(seed: int) -> Client:
        torch.manual_seed(seed)
        settings = ModelSettings(arch="frozen-mobilenet", pretrained=str(stored), width=WIDTH, side=SIDE)
        samples = ImageSet(images, labels)
        learner = build_client_model(settings, classes=CLASSES)
        return Client(
            ClientContext(
                name="image-0",
                modality="image",
                model=learner,
                tokenizer=None,
                private=samples,
                test=samples,
                seed=0,
                rate=1e-2,
            ),
            None,
        )

    first, second = client(0), client(1)
    start = first.context.train_private(1, 0)
    first.context.train_private(60, 1)
    end = first.context.train_private(1, 2)
    assert start is not None
    assert end is not None
    assert end < 0.75 * start
    second.load_state(*first.state())
    assert torch.equal(first.context.look(first.context.test)[1], second.context.look(second.context.test)[1])
    assert first.context.train_private(2, 5) == second.context.train_private(2, 5)


# ------------------------------------------------------------------------------------------------ settings


def test_without_augmentation_each_picture_is_looked_at_once(stored: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))
    labels = np.arange(6) % 3
    data = ImageSet(pictures(6), labels)

    def site(**how: Any) -> ClientContext:
        return ClientContext(
            name="image-0",
            modality="image",
            model=learner_on(stored),
            tokenizer=None,
            private=data,
            test=data,
            seed=0,
            **how,
        )

    plain, once = site(), site(augment=False, features=features_once)
    assert set(plain.private) == {"pixel_values"}
    assert set(once.private) == {"features"}
    assert torch.equal(plain.look(plain.test)[1], once.look(once.test)[1])
    once.train_private(3, 1)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureClientModel, "frozen_features", lambda *a: pytest.fail("looked again"))
        again = site(augment=False, features=features_once)
        again.train_private(3, 1)
    assert torch.equal(again.look(again.test)[1], once.look(once.test)[1])
    assert again.side == 16


def test_settings_ask_for_the_arrays() -> None:
    with pytest.raises(BadInput, match=r"clients.*needs `pretrained`: the path .* NAME.npz"):
        validate(Config, {"clients": {"image": [{"arch": "frozen-mobilenet"}]}})


def test_absent_arrays_are_named(tmp_path: Path) -> None:
    settings = ModelSettings(arch="frozen-mobilenet", pretrained=str(tmp_path / "nothing_1.0"))
    with pytest.raises(BadInput, match=r"nothing_1\.0\.npz: no such file"):
        build_client_model(settings, classes=CLASSES)


def test_side_shows_only_where_it_counts() -> None:
    assert "side" not in ModelSettings(arch="vit").model_dump()
    group = ClientGroup(arch="frozen-mobilenet", pretrained="x", side=64)
    assert ModelSettings(**group.model_dump(exclude={"count", "name"})).side == 64
    assert ClientGroup.model_validate_json(group.model_dump_json()) == group


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
