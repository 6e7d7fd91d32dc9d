"""What looks at pictures to score them: image models as feature networks, and the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import given_models
from fedloom.config.models import JudgeSettings
from fedloom.data.containers import ImageSet
from fedloom.errors import BadInput
from fedloom.models.device import CPU
from fedloom.models.evaluators.features import load_features
from fedloom.models.evaluators.image_network import ImageNetwork, load_backbone, load_classifier
from fedloom.models.evaluators.judge import Judge, build_judge, load_judge, train_judge
from fedloom.models.pictures import to_float

CLASSES = 3


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return given_models.vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def real() -> ImageSet:
    """Pictures that are one colour a class, and noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(24) % CLASSES
    images = rng.integers(0, 100, (24, 12, 12, 3))
    images[np.arange(24), :, :, labels] += 150
    return ImageSet(images.astype(np.uint8), labels)


def test_a_classifier_gives_what_enters_its_last_layer(vit, real):
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    network = load_features(str(vit), CPU)
    features, p = network.look(real.images, batch=7)
    model = ViTForImageClassification.from_pretrained(vit).eval()
    pixels = ViTImageProcessorPil.from_pretrained(vit)(list(real.images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(torch.as_tensor(pixels), output_hidden_states=True)
        first = model.vit(torch.as_tensor(pixels)).last_hidden_state[:, 0]
    assert p is not None
    assert torch.allclose(p, out.logits.softmax(-1), atol=2e-3)  # resizing rounds a pixel otherwise
    assert torch.allclose(features, first, atol=2e-2)
    assert network.name == f"vit ({vit.name})"


def test_a_resnet_and_bare_backbones(tmp_path, real):
    given_models.resnet(tmp_path / "resnet")
    given_models.vit(tmp_path / "bare", kind="ViTModel")
    given_models.clip(tmp_path / "clip")
    for name, width, knows in (("resnet", 16, True), ("bare", 16, False), ("clip", 8, False)):
        features, p = load_backbone("features", tmp_path / name).look(real.images)
        assert features.shape == (24, width)
        assert (p is not None) == knows
        assert features.std(0).max() > 0


def test_what_reads_no_pictures(tmp_path):
    given_models.bert(tmp_path)
    with pytest.raises(BadInput, match="a bert reads no pictures"):
        load_backbone("features", tmp_path)
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_classifier("judge", tmp_path, CLASSES)


def test_looking_in_batches_changes_nothing(real):
    torch.manual_seed(0)
    judge = Judge(JudgeSettings(channels=(4, 8)), CLASSES)
    judge.eval()
    with torch.no_grad():
        features = judge.features(to_float(real.images))
        expected = judge(to_float(real.images)).softmax(-1)
    for batch in (1, 5, 24, 100):
        seen, p = judge.look(real.images, batch)
        assert torch.allclose(seen, features, atol=1e-6)
        assert p is not None
        assert torch.allclose(p, expected, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pretrained_judge_learns_and_is_kept(precision, vit, real, tmp_path):
    from safetensors.torch import save_file

    settings = JudgeSettings(pretrained=str(vit), steps=30, batch=12, rate=3e-3, precision=precision)
    judge = train_judge(settings, real, CLASSES, seed=0)
    assert isinstance(judge, ImageNetwork)
    features, p = judge.look(real.images)
    assert p is not None
    assert p.shape == (24, CLASSES)
    assert (p.argmax(1).numpy() == real.labels).mean() == 1
    assert {w.dtype for w in judge.parameters()} == {torch.float32}
    save_file(judge.state_dict(), tmp_path / "judge.safetensors")
    again = load_judge(settings, CLASSES, tmp_path)
    assert torch.equal(again.look(real.images)[0], features)
    assert not any(w.requires_grad for w in again.parameters())


def test_a_judge_on_frozen_features(vit, real, tmp_path):
    """Only its last layer is trained; what is saved is the same judge."""
    from safetensors.torch import save_file

    settings = JudgeSettings(pretrained=str(vit), tune="head", steps=60, batch=12, rate=3e-2)
    judge = train_judge(settings, real, CLASSES, seed=0)
    stock = load_classifier("judge", str(vit), None)
    for name, value in stock.backbone.state_dict().items():
        assert torch.equal(judge.backbone.state_dict()[name], value)
    features, p = judge.look(real.images)
    assert p is not None
    assert (p.argmax(1).numpy() == real.labels).mean() > 0.9
    save_file(judge.state_dict(), tmp_path / "judge.safetensors")
    assert torch.equal(load_judge(settings, CLASSES, tmp_path).look(real.images)[0], features)
    assert settings.model_dump()["tune"] == "head"
    assert {"tune", "side"}.isdisjoint(JudgeSettings().model_dump())
    with pytest.raises(ValueError, match=r"set evaluation\.judge\.pretrained"):
        JudgeSettings(tune="head")
    with pytest.raises(BadInput, match=r"evaluation\.judge\.side = 48: a vit does not see pictures of it"):
        build_judge(JudgeSettings(pretrained=str(vit), side=48), CLASSES)


def test_a_judge_that_is_not_there():
    with pytest.raises(BadInput, match=r"evaluation\.judge 'nobody/nothing': no such folder"):
        build_judge(JudgeSettings(pretrained="nobody/nothing"), CLASSES)
