"""EfficientNet-lite: what is converted, how it pads and sees, and a client on its frozen features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.client_model import FrozenClientModel
from fedloom.models.clients.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteForImageClassification,
    SameConv,
    convert_published,
)
from fedloom.models.evaluators.image_network import load_classifier

NAMES = ("a", "b", "c")
# Two stages of equal width would look like one in published weights.
TINY = {"stem": 8, "widths": [8, 12, 16, 20, 24, 28, 32], "depths": [1, 2, 1, 1, 1, 1, 1], "hidden_size": 32}
THEIRS = {"expand.0": "_expand_conv", "expand.1": "_bn0", "depthwise.0": "_depthwise_conv", "depthwise.1": "_bn1"}
THEIRS |= {"project.0": "_project_conv", "project.1": "_bn2"}
ENDS = {"stem.0": "_conv_stem", "stem.1": "_bn0", "last.0": "_conv_head", "last.1": "_bn1", "classifier": "_fc"}


def network(**more) -> EfficientNetLiteForImageClassification:
    """A tiny one whose normalisation has seen something."""
    torch.manual_seed(0)
    net = EfficientNetLiteForImageClassification(EfficientNetLiteConfig(**TINY, num_labels=5, **more)).train()
    with torch.no_grad():
        net(torch.randn(4, 3, 64, 64))
    return net.eval()


def published_name(own: str) -> str:
    part, what = own.rsplit(".", 1)
    if part.startswith("blocks."):
        _, number, layer = part.split(".", 2)
        return f"_blocks.{number}.{THEIRS[layer]}.{what}"
    return f"{ENDS[part]}.{what}"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder of a .pth file, names as they are published."""
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save({published_name(k): v for k, v in network().state_dict().items()}, folder / "net.pth")
    return folder


@pytest.fixture
def converted(published: Path, tmp_path: Path) -> Path:
    out = tmp_path / "made"
    out.mkdir()
    convert_published(published, out)
    return out


@pytest.mark.parametrize("size", [7, 8, 9, 32])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """SAME: ceil(size / stride) positions; the odd pixel that is lacking is added at the end."""
    conv = SameConv(2, 3, kernel, stride)
    x = torch.randn(1, 2, size, size + 1)
    y = conv(x)
    assert y.shape[2:] == (-(-size // stride), -(-(size + 1) // stride))
    lacking = [max((out - 1) * stride + kernel - n, 0) for out, n in zip(y.shape[2:], x.shape[2:])]
    before = [n // 2 for n in lacking]
    padded = torch.zeros(1, 2, size + lacking[0], size + 1 + lacking[1])
    padded[..., before[0] : before[0] + size, before[1] : before[1] + size + 1] = x
    torch.testing.assert_close(y, F.conv2d(padded, conv.weight, stride=stride))


def test_published_weights_become_a_folder(converted: Path) -> None:
    again, net = EfficientNetLiteForImageClassification.from_pretrained(converted).eval(), network()
    assert (again.config.depths, again.config.widths) == (TINY["depths"], TINY["widths"])
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(again(x).logits, net(x).logits)
    looks = json.loads((converted / "preprocessor_config.json").read_text())
    assert looks["image_mean"][0] == pytest.approx(127 / 255)
    assert not list(converted.glob("*.pth"))


def test_what_is_not_one(published: Path, tmp_path: Path) -> None:
    torch.save({"_fc.weight": torch.zeros(3, 4)}, published / "net.pth")
    with pytest.raises(BadInput, match=r"net.pth: holds no EfficientNet-lite"):
        convert_published(published, tmp_path / "made")
    torch.save({"layer1.weight": torch.zeros(3, 4)}, published / "net.pth")
    with pytest.raises(BadInput, match=r"net.pth: holds no EfficientNet-lite"):
        convert_published(published, tmp_path / "made")
    (published / "net.pth").unlink()
    with pytest.raises(BadInput, match="holds 0 files"):
        convert_published(published, tmp_path / "made")


def test_a_client_on_its_features(converted: Path, tmp_path: Path) -> None:
    """Pictures are enlarged to `side` and normalised as published; only projector and head are trained."""
    settings = ModelSettings(arch="efficientnet-lite", pretrained=str(converted), tune="head", side=64, width=16)
    assert settings.model_dump()["side"] == 64
    model = build_client_model(settings, classes=len(NAMES)).eval()
    assert isinstance(model, FrozenClientModel)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"projector", "head"}
    pixels = torch.rand(3, 3, 24, 24) * 2 - 1
    seen = model.preprocessor(pixels)
    assert seen.shape == (3, 3, 64, 64)
    flat = model.preprocessor(torch.full((1, 3, 24, 24), 2 * 200 / 255 - 1))
    torch.testing.assert_close(flat, torch.full_like(flat, (200 - 127) / 128), atol=1e-4, rtol=0)
    net = EfficientNetLiteForImageClassification.from_pretrained(converted).eval()
    net.classifier = nn.Identity()
    features = model.frozen_features(pixel_values=pixels)
    torch.testing.assert_close(features, net(seen).logits)
    torch.testing.assert_close(model(features=features), model(pixel_values=pixels))
    model.export(tmp_path / "out", NAMES)
    out = EfficientNetLiteForImageClassification.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(out(seen).logits, model(pixel_values=pixels))


def test_a_judge_on_its_features(converted: Path) -> None:
    judge = load_classifier("evaluation.judge", converted, len(NAMES), side=48)
    assert (judge.preprocessor.side, judge.preprocessor.resized) == (48, 48)
    assert judge.look(np.zeros((2, 24, 24, 3), np.uint8))[0].shape == (2, 32)


def test_settings_of_it() -> None:
    assert ModelSettings(arch="efficientnet-lite").side == 96
    assert "side" not in ModelSettings(arch="vit").model_dump()
    with pytest.raises(ValueError, match="tune = 'lora', allowed: all, head"):
        ModelSettings(arch="efficientnet-lite", tune="lora")
    net = build_client_model(ModelSettings(arch="efficientnet-lite"), classes=3)
    assert net.backbone.config.depths == [1, 2, 2, 3, 3, 4, 1]
