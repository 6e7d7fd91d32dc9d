"""Frozen features of shared samples: looked at once by all clients of a process that stand on one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import fedloom
import given_models
from fedloom.experiment import client_builder
from fedloom.experiment.client_builder import LATEST, features_shared
from fedloom.models.clients.client_model import FrozenClientModel
from fedloom.models.clients.text import own_lengths, tokenize
from whole_runs import rows_of


def test_clients_on_one_model_look_once(fedloom_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(given_models.resnet(tmp_path / "resnet"))
    model = {"arch": "resnet", "pretrained": folder, "tune": "head", "width": 16}
    clients = {"image": [{**model, "count": 3}], "text": [], "augment": False}
    looked: list[int] = []
    frozen = FrozenClientModel.frozen_features

    def counted(self: FrozenClientModel, **inputs: torch.Tensor) -> torch.Tensor:
        looked.append(len(next(iter(inputs.values()))))
        return frozen(self, **inputs)

    def run(name: str) -> list[dict[str, object]]:
        looked.clear()
        run = fedloom.run(preset="smoke", method="fedmmkt", clients=clients, settings=FEW, out=tmp_path / name)
        return rows_of(run)

    monkeypatch.setattr(client_builder, "_SHARED", {})  # of other tests on the same samples
    monkeypatch.setattr(FrozenClientModel, "frozen_features", counted)
    once = run("once")
    assert looked.count(SAMPLES) == 2  # rounds
    monkeypatch.setattr("fedloom.experiment.clients.features_shared", None)
    assert run("each") == once
    assert looked.count(SAMPLES) == 6


SAMPLES = 7
FEW = {"samples": SAMPLES, "tune_steps": 1, "retrain_steps": 2, "private_steps": 1}


def test_few_are_kept_and_nobody_changes_them(tmp_path: Path) -> None:
    from fedloom.config.models import ModelSettings
    from fedloom.models.clients.build import build_client_model

    folder = str(given_models.resnet(tmp_path / "resnet"))
    settings = ModelSettings(arch="resnet", pretrained=folder, tune="head")
    model = build_client_model(settings, classes=3, image_size=32, tokenizer=None)
    pictures = [torch.from_numpy(np.full((2, 3, 32, 32), n, dtype=np.float32)) for n in range(LATEST + 2)]
    first = features_shared(model, {"pixel_values": pictures[0]})
    before = first.clone()
    first.zero_()
    assert torch.equal(features_shared(model, {"pixel_values": pictures[0]}), before)
    for picture in pictures:
        features_shared(model, {"pixel_values": picture})
    assert len(client_builder._SHARED) == LATEST


def test_texts_are_read_to_their_own_length(tmp_path: Path) -> None:
    """Whatever texts they come with, and as if they were padded to the full length."""
    from fedloom.config.models import ModelSettings
    from fedloom.models.clients.build import build_client_model

    folder = given_models.bert(tmp_path / "bert")
    words = AutoTokenizer.from_pretrained(folder)
    words.model_max_length = 24
    settings = ModelSettings(arch="bert", pretrained=str(folder), tune="head")
    model = build_client_model(settings, classes=3, image_size=0, tokenizer=words)
    texts = ["red " * n for n in (1, 20, 3, 9, 40, 2)]
    inputs = tokenize(words, texts)
    seen = model.frozen_features(**inputs)
    with torch.no_grad():
        assert torch.allclose(seen, model.backbone_features(**inputs), atol=1e-5)
    assert model.frozen_features(**tokenize(words, [])).shape == (0, seen.shape[1])
    alone = [model.frozen_features(**tokenize(words, [text])) for text in texts]
    assert torch.allclose(torch.cat(alone), seen, atol=1e-6)


def test_features_of_no_pictures(tmp_path: Path) -> None:
    """FedGEMS's server may have nothing to ask about."""
    from fedloom.config.models import ModelSettings
    from fedloom.models.clients.build import build_client_model

    settings = ModelSettings(arch="resnet", pretrained=str(given_models.resnet(tmp_path / "resnet")), tune="head")
    model = build_client_model(settings, classes=3, image_size=32, tokenizer=None)
    none = model.frozen_features(pixel_values=torch.zeros(0, 3, 32, 32, dtype=torch.uint8))
    assert none.shape == (0, model.frozen_features(pixel_values=torch.zeros(1, 3, 32, 32)).shape[1])
    assert model(features=none).shape == (0, 3)


def test_lengths_to_read_to() -> None:
    mask = (torch.arange(20)[None] < torch.tensor([[0], [1], [8], [9], [16], [17], [20]])).long()
    assert own_lengths(mask).tolist() == [8, 8, 8, 16, 16, 20, 20]
    assert own_lengths(mask[:, :5]).tolist() == [5] * 7
    assert own_lengths(mask.flip(1))[1:].tolist() == [20] * 6  # padded on the left: to the end
