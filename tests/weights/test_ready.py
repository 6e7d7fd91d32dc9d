"""The models of the default scene that come with the package: sound, small, what a run asks for, as if made anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from fedloom.config import load_config
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.errors import FedloomError
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.gates import pretrained
from fedloom.experiment.pretraining import ready as packed
from fedloom.experiment.pretraining.builders import asset, present, tokenizer_folder
from fedloom.experiment.pretraining.keys import asset_key
from fedloom.models.evaluators.judge import load_judge
from fedloom.progress import Observer
from fedloom.runs.manifest import damage
from fedloom.tasks import ClientTask
from fedloom.weights.place import READY

MADE = json.loads((READY / "made.json").read_text())


class Untrained(Observer):
    """Fails where anything is pretrained."""

    def stage(self, name: str, steps: int = 0) -> None:
        raise AssertionError(name)


@pytest.fixture(scope="module")
def flora(fedloom_cache: Path) -> FederatedDataset:
    return cached_dataset(load_config().data)


def test_they_are_sound_and_small() -> None:
    files = [file for file in READY.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 6 * 2**20
    folders = {file.parent for file in files if file.name == "manifest.json"}
    assert {folder.relative_to(READY).as_posix() for folder in folders} == set(MADE["models"].values())
    assert [damage(folder, contents=True) for folder in folders] == [None] * len(folders)
    for folder in folders:  # caches of what is made with a model are named by its folder: other weights, another name
        files = json.loads((folder / "manifest.json").read_text())["files"]
        assert folder.name == hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:32]
    assert MADE["command"] == "python benchmarks/shipped.py flora"
    assert MADE["seed"] == load_config().server.seed
    assert "dirty" not in MADE["commit"]


def test_a_run_without_options_trains_nothing_before_it_begins(fedloom_cache: Path) -> None:
    """What ships is all that the configuration asks for, by its key: of data, seed, settings, steps and code."""
    found = pretrained(load_config(), Untrained())
    assert {name: folder.relative_to(READY).as_posix() for name, folder in found.items()} == MADE["models"]


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("server.seed=1", "clip"),
        ("server.seed=1", "judge"),
        ("server.clip.steps=599", "clip"),
        ("server.clip.steps=599", "generator"),  # it speaks through that CLIP
        ("server.generator.rate=0.001", "generator"),
        ("server.captioner.hidden=32", "captioner"),
        ("server.vocabulary=900", "captioner"),
        ("evaluation.judge.steps=10", "judge"),
        ("clients.public_steps=20", next(name for name in MADE["models"] if "bert" in name)),
        ("server.retrain=true", "clip"),
    ],
)
def test_another_configuration_trains_as_ever(setting: str, kind: str, flora: FederatedDataset) -> None:
    assert present(load_config(), flora, kind)
    assert not present(load_config(overrides=[setting]), flora, kind)


def test_other_data_train_as_ever(flora: FederatedDataset) -> None:
    config = load_config(overrides=["data.options.confusion=0.5"])
    other = cached_dataset(config.data)
    assert not any(present(config, other, kind) for kind in ("clip", "generator", "captioner"))
    assert present(config, other, "judge")  # which learns from other pictures


def test_another_torch_or_more_threads_take_them_all_the_same(flora: FederatedDataset) -> None:
    key = asset_key(load_config(), flora, "generator")
    other = {**key, "torch": "9.9", "threads": 4, "clip": {**key["clip"], "torch": "9.9"}}
    assert packed.ready("generator", key) is not None
    assert packed.ready("generator", other) == packed.ready("generator", key)
    assert packed.ready("generator", {**key, "clip": {**key["clip"], "format": 0}}) is None


def test_a_damaged_one_is_one_line(flora: FederatedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = packed.ready("judge", asset_key(load_config(), flora, "judge"))
    assert entry is not None
    place = tmp_path / "judge" / entry.name
    place.mkdir(parents=True)
    for file in entry.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    (place / "judge.safetensors").write_bytes(b"0" * (entry / "judge.safetensors").stat().st_size)
    monkeypatch.setattr(packed, "READY", tmp_path)
    with pytest.raises(FedloomError, match=r"is damaged \(judge\.safetensors .*install fedloom again"):
        present(load_config(), flora, "judge")


def test_the_tokenizer_made_anew_is_the_same(flora: FederatedDataset) -> None:
    ours, anew = (tokenizer_folder(load_config(overrides=more), flora) for more in ([], ["server.retrain=true"]))
    assert ours.is_relative_to(READY)
    assert not anew.is_relative_to(READY)
    assert (ours / "tokenizer.json").read_bytes() == (anew / "tokenizer.json").read_bytes()


def test_the_judge_made_anew_says_the_same(flora: FederatedDataset) -> None:
    """The cheapest that is trained. Weights may differ, as other processors round otherwise."""
    config = load_config(overrides=["server.retrain=true"])
    test = flora.test[ClientTask.IMAGE_CLASSIFICATION]
    assert isinstance(test, ImageSet)
    folders = [asset(load_config(), flora, "judge"), asset(config, flora, "judge")]
    seen = [load_judge(config.evaluation.judge, flora.classes, folder).look(test.images)[1] for folder in folders]
    ours, anew = (p.argmax(1) for p in seen if p is not None)
    right = torch.from_numpy(test.labels)
    assert abs(float((ours == right).float().mean() - (anew == right).float().mean())) <= 0.03
    assert float((ours == anew).float().mean()) >= 0.9
