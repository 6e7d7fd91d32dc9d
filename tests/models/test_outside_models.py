"""Client models from outside the package that break their contract: found once, where they are built, on one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fedloom.config.models import ModelSettings
from fedloom.errors import BadInput
from fedloom.models.clients.build import build_client_model
from fedloom.models.clients.client_model import ClientModel
from fedloom.models.clients.text import train_tokenizer
from fedloom.planning import plan

EXAMPLE = (Path(__file__).resolve().parents[2] / "examples" / "bring_a_model.py").read_text()
BUILD = "return SmallCNN(settings.hidden, data.classes)"
LOGITS = "self.classifier(self.features(pixel_values))"

MISTAKES = {
    "nothing": (BUILD, "return None", "backbone returned None, expected a torch.nn.Module that answers with logits"),
    "name": ('head="classifier"', 'head="clasifier"', "SmallCNN: unknown head 'clasifier'. Did you mean 'classifier'?"),
    "kind": ('head="classifier"', 'head="features"', "SmallCNN.features is a Sequential, expected a Linear layer"),
    "classes": (BUILD, BUILD.replace("classes", "classes + 3"), "has 13 outputs, expected 10, one a class"),
    "input": ("pixel_values", "x", "SmallCNN.forward is called with pixel_values: missing a required argument: 'x'"),
    "answer": (f"SimpleNamespace(logits={LOGITS})", LOGITS, "SmallCNN.forward returned a Tensor, expected an output"),
    "shape": (LOGITS, f"{LOGITS}.sum(0)", "last layer 'classifier', returned logits (16,), expected (2, 16)"),
    "whole": ("backbone=build, head=", "client_model=lambda s, d, u: 3, head=", "it is 3, expected encode, classify"),
}  # fmt: skip


def written(folder: Path, old: str = "", new: str = "") -> dict[str, Any]:
    """Settings of the example's model, a part of its code replaced."""
    assert old in EXAMPLE
    (folder / "mine.py").write_text(EXAMPLE.replace(old, new) if old else EXAMPLE)
    return {"arch": f"{folder}/mine.py:SMALL_CNN", "hidden": 8, "width": 16}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, tmp_path: Path) -> None:
    """Of a run and of its plan."""
    old, new, says = MISTAKES[mistake]
    mine = written(tmp_path, old, new)
    with pytest.raises(BadInput) as error:
        build_client_model(ModelSettings(**mine), classes=10, image_size=12)
    assert says in str(error.value)
    assert str(error.value).startswith("client model small-cnn: ")
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match=re.escape(says)):
        plan(preset="smoke", method="fedavg", clients={"image": [mine], "text": []})


def test_a_text_model_is_shown_texts(tmp_path: Path) -> None:
    mine = written(tmp_path, "Modality.IMAGE", "Modality.TEXT")
    tokenizer = train_tokenizer(["a few words"])
    with pytest.raises(BadInput, match="forward is called with input_ids, attention_mask: "):
        build_client_model(ModelSettings(**mine), classes=3, tokenizer=tokenizer)


def test_the_look_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, statistics, training mode and torch's stream are those of a model that nobody has looked at."""
    noise = "nn.BatchNorm2d(3, affine=False), nn.Dropout().eval(), nn.Conv2d(3, channels, 3, padding=1)"
    mine = ModelSettings(**written(tmp_path, "nn.Conv2d(3, channels, 3, padding=1)", noise))

    def built() -> tuple[dict[str, torch.Tensor], list[bool], torch.Tensor]:
        torch.manual_seed(5)
        model = build_client_model(mine, classes=3, image_size=12)
        return model.state_dict(), [part.training for part in model.modules()], torch.get_rng_state()

    looked = built()
    monkeypatch.setattr(ClientModel, "check_backbone", lambda self, **inputs: None)
    state, modes, stream = built()
    assert modes == looked[1]
    assert len(set(modes)) == 2
    assert torch.equal(stream, looked[2])
    assert all(torch.equal(value, looked[0][name]) for name, value in state.items())


def test_built_in_models_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientModel, "_answer", lambda self, inputs: pytest.fail("it is run"))
    build_client_model(ModelSettings(arch="resnet", hidden=8, width=8), classes=3, image_size=12)


def test_kept_features_are_those_of_the_file(tmp_path: Path) -> None:
    """Another file gives other features of the same weights."""
    keys = []
    for layer in ("nn.ReLU()", "nn.GELU()"):
        (folder := tmp_path / "same").mkdir(exist_ok=True)
        settings = ModelSettings(**written(folder, "nn.ReLU()", layer), tune="head")
        torch.manual_seed(0)
        keys.append(build_client_model(settings, classes=3, image_size=12).features_key)
    assert keys[0] != keys[1]
