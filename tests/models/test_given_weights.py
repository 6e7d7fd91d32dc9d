"""Weights of a library that nobody trains: in a checkpoint by their digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import fedloom
import given_models
from fedloom.config.models import ModelSettings
from fedloom.data.containers import ImageSet
from fedloom.errors import FedloomError
from fedloom.methods.context import ClientContext
from fedloom.methods.given import GIVEN
from fedloom.models.clients import client_model
from fedloom.models.clients.build import build_client_model
from fedloom.tasks import ClientTask
from whole_runs import assert_equal, weights_of

FEW = {"samples": 7, "tune_steps": 1, "retrain_steps": 2, "private_steps": 1}


@pytest.fixture
def resnet(tmp_path: Path) -> str:
    return str(given_models.resnet(tmp_path / "resnet"))


def context(folder: str, tune: str, pictures: ImageSet) -> ClientContext:
    torch.manual_seed(0)
    settings = ModelSettings(arch="resnet", pretrained=folder, tune=tune, width=16)
    model = build_client_model(settings, classes=3, image_size=32)
    return ClientContext(
        name="image-0",
        modality=ClientTask.IMAGE_CLASSIFICATION,
        model=model,
        tokenizer=None,
        private=pictures,
        test=pictures,
        seed=0,
    )


@pytest.fixture
def few() -> ImageSet:
    rng = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (6, 32, 32, 3), generator=rng, dtype=torch.uint8)
    return ImageSet(pictures.numpy(), torch.arange(6).remainder(3).numpy())


def test_a_run_resumes_on_them(fedloom_cache: Path, resnet: str, tmp_path: Path) -> None:
    model = {"arch": "resnet", "pretrained": resnet, "tune": "head", "width": 16}
    clients: dict[str, Any] = {"image": [{**model, "count": 2}], "text": [], "augment": False}
    whole = fedloom.run(preset="smoke", method="fedmmkt", clients=clients, settings=FEW, out=tmp_path / "whole")
    kept = weights_of(whole, "checkpoints")
    assert [k for k in kept if "model/head" in k]
    assert not [k for k in kept if "backbone" in k]
    assert [k for k in weights_of(whole, "export") if "encoder" in k]
    shutil.copytree(whole.path, tmp_path / "killed")
    (tmp_path / "killed" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "round_0002")
    assert_equal(fedloom.run(resume=tmp_path / "killed"), whole)


def test_other_weights_are_refused(resnet: str, few: ImageSet, tmp_path: Path) -> None:
    arrays, rest = context(resnet, "head", few).state()
    weights = tmp_path / "other" / "model.safetensors"
    shutil.copytree(resnet, weights.parent)
    save_file({k: v + 1 if v.is_floating_point() else v for k, v in load_file(weights).items()}, weights)
    other = context(str(weights.parent), "head", few)
    with pytest.raises(
        FedloomError, match=r"stands on weights [0-9a-f]{12} in backbone\., and this model has [0-9a-f]"
    ):
        other.load_state(arrays, json.loads(json.dumps(rest)))


def test_weights_that_have_changed_are_saved(resnet: str, few: ImageSet) -> None:
    """As an average of equal numbers may be off by a rounding."""
    one, two = context(resnet, "head", few), context(resnet, "head", few)
    with torch.no_grad():
        next(one.model.backbone.parameters()).add_(1e-3)
    arrays, rest = one.state()
    assert [k for k in arrays if "backbone" in k]
    assert GIVEN not in rest["model"]
    two.load_state(arrays, rest)
    assert all(torch.equal(a, b) for a, b in zip(one.model.state_dict().values(), two.model.state_dict().values()))


def test_what_is_trained_is_saved(resnet: str, few: ImageSet) -> None:
    arrays, rest = context(resnet, "all", few).state()
    assert [k for k in arrays if "backbone" in k]
    assert GIVEN not in rest["model"]


@pytest.mark.parametrize("how", ["in place", "other storage", "a buffer", "loaded"])
def test_a_digest_is_taken_anew_only_where_weights_may_have_changed(
    how: str, resnet: str, few: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    whole = client_model._add_weights
    monkeypatch.setattr(client_model, "_add_weights", lambda d, backbone: (taken.append(1), whole(d, backbone)))
    model: Any = context(resnet, "head", few).model
    first = model.backbone_digest()
    assert [model.backbone_digest() for _ in range(3)] == [first] * 3
    assert len(taken) == 1  # when the model was built
    weight, buffer = next(model.backbone.parameters()), next(b for b in model.backbone.buffers() if b.dim())
    with torch.no_grad():
        if how == "in place":
            weight.add_(1)
        elif how == "other storage":
            for k in range(9):  # where freed memory would be taken again
                weight.data = weight.data + k
        elif how == "a buffer":
            buffer.data.add_(1)
        else:
            model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
    assert model.backbone_digest() != first
    assert len(taken) == 2
