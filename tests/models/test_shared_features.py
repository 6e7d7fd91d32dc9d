"""Frozen features of shared samples: looked at once by all clients of a process that stand on one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fedloom
import given_models
from fedloom.experiment import client_builder
from fedloom.experiment.client_builder import LATEST, features_shared
from fedloom.models.clients.client_model import FrozenClientModel
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
