"""The learner that stands on the stored MobileNet, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedloom.config import ClientGroup, Config
from fedloom.config.models import ModelSettings
from fedloom.config.trees import validate
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.experiment.client_builder import features_once
from fedloom.methods.base import Client
from fedloom.methods.context import ClientContext
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.mobilenet import FeatureClientModel, load_exported
from fedloom.models.pictures import to_float
from tiny_mobilenet import CLASSES, SIDE, WIDTH, learner_on, pictures, tiny, write


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
