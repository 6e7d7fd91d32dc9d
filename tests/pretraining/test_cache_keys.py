"""Names of caches are lists of named fields: what stood under them stays found, and a new setting changes none."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.config import Config, load_config
from fedloom.config.models import ClipSettings, JudgeSettings, ModelSettings
from fedloom.data.containers import FederatedDataset, ImageSet, PublicData
from fedloom.experiment.pretraining import keys
from fedloom.tasks import CLIENT_TASKS, ClientTask

KINDS = ("tokenizer", "clip", "captioner", "generator", "judge")
# As they were before the fields were listed.
RECORDED: dict[str | None, str] = {
    None: "7aa81fe7982ab84a",
    "smoke": "56068497a008f64f",
    "fedafd": "630bd3bdcf630c0e",
    "fedcmi": "9ad43f3aa785cd13",
}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> FederatedDataset:
    """Two pictures that nobody holds, and the same torch everywhere."""
    monkeypatch.setattr(keys, "_version", lambda name: "2.0")
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64)
    public = PublicData(images, ("one", "two"), labels)
    train = {ClientTask.IMAGE_CLASSIFICATION: ImageSet(images, labels)}
    return FederatedDataset("toy", ("rose",), train, {}, public)


def all_keys(config: Config, scene: FederatedDataset) -> dict[str, Any]:
    """The keys of all assets, and of all models."""
    models = [m for task in CLIENT_TASKS for m in config.clients.models(task)]
    public = [
        m for task in CLIENT_TASKS if task != ClientTask.MULTIMODAL_CLASSIFICATION for m in config.clients.models(task)
    ]
    backbones = [keys.backbone_name(tower) for model in public for tower in model.towers()]
    found: dict[str, Any] = {kind: keys.asset_key(config, scene, kind) for kind in (*KINDS, *backbones)}
    return found | {"models": [keys.model_key(model) for model in models]}


def digest(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("preset", [None, "smoke", "fedafd", "fedcmi"])
def test_keys_are_as_recorded(preset: str | None, scene: FederatedDataset) -> None:
    assert digest(all_keys(load_config(preset=preset), scene)) == RECORDED[preset]


def test_a_new_setting_changes_no_key(scene: FederatedDataset) -> None:
    class LaterModel(ModelSettings):
        dropout: float = 0.0

    class LaterClip(ClipSettings):
        dropout: float = 0.0

    class LaterJudge(JudgeSettings):
        dropout: float = 0.0

    before = ModelSettings(arch="vit", tune="lora", unit=True)
    after = LaterModel(arch="vit", tune="lora", unit=True)
    assert keys.model_key(after) == keys.model_key(before)
    assert keys.backbone_name(after) == keys.backbone_name(before)
    config = Config()
    evaluation = config.evaluation.model_copy(update={"judge": LaterJudge()})
    server = config.server.model_copy(update={"clip": LaterClip()})
    later = config.model_copy(update={"evaluation": evaluation, "server": server})
    for kind in ("clip", "judge"):
        assert keys.asset_key(later, scene, kind) == keys.asset_key(config, scene, kind)


def test_a_backbone_from_outside_is_named_by_its_file_too(scene: FederatedDataset, tmp_path: Path) -> None:
    """Another file under the same name is another model; of what is built in no file counts."""
    mine = tmp_path / "mine.py"
    shutil.copy(Path(__file__).parents[2] / "examples" / "bring_a_model.py", mine)
    name = keys.backbone_name(ModelSettings(arch=f"{mine}:SMALL_CNN"))
    before = keys.asset_key(Config(), scene, name)
    assert keys.asset_key(Config(), scene, name) == before
    mine.write_text(mine.read_text().replace("nn.ReLU()", "nn.GELU()"))
    assert keys.asset_key(Config(), scene, name) != before
    assert "code" not in keys.asset_key(Config(), scene, keys.backbone_name(ModelSettings(arch="vit")))
