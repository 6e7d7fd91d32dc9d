"""A run on real pictures and texts whose models are all given: nothing is pretrained, and there is no generic part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_latent_tiny import tiny

import fedloom
import given_models
from fedloom.config import Config, load_config
from fedloom.errors import BadInput
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining.keys import asset_key
from fedloom.reporting.sections import head
from fedloom.results import Run

torch.set_num_threads(1)

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of pictures and files of texts."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / "images" / name).mkdir(parents=True)
        for n in range(10):
            noisy = np.clip(np.array(colour) + rng.integers(-30, 31, (20, 16, 3)), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(root / "images" / name / f"{n}.png")
    for part, each in (("train", 8), ("test", 2)):
        rows = [f"a {c} flower with {n} petals,{c}" for c in COLOURS for n in range(each)]
        (root / f"texts_{part}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of all models."""
    root = tmp_path_factory.mktemp("models")
    made = {name: str(getattr(given_models, name)(root / name)) for name in ("blip", "clip", "vit", "bert")}
    return {**made, "resnet": str(given_models.resnet(root / "resnet")), "diffusion": str(tiny("one"))}


def tree(data: Path, models: dict[str, str], **evaluation: Any) -> dict[str, Any]:
    """The configuration: two rounds at the smallest."""
    group = {"hidden": 16, "width": 16}
    return {
        "rounds": 2,
        "data": {
            "name": "folder",
            "root": str(data),
            "partition": "iid",
            "minimum": 2,
            "options": {"size": 16, "generic_share": 0},
        },
        "clients": {
            "image": [{"arch": "vit", "pretrained": models["vit"], **group}],
            "text": [{"arch": "bert", "pretrained": models["bert"], **group}],
            "warm_steps": 1,
            "batch": 8,
        },
        "server": {
            "clip": {"pretrained": models["clip"]},
            "captioner": {"pretrained": models["blip"], "max_tokens": 6},
            "generator": {
                "pretrained": models["diffusion"],
                "sampling_steps": 2,
                "guidance": 2.0,
                "latent": {"train": "lora", "rank": 2, "sampler": "ddim"},
            },
        },
        "evaluation": {
            "judge": {"pretrained": models["vit"], "steps": 20, "batch": 8, "rate": 3e-3},
            "features": models["vit"],
            "prompts_per_class": 1,
            "grid": 1,
            **evaluation,
        },
        "settings": {"samples": 6, "retrain_steps": 1, "private_steps": 1, "tune_steps": 1, "tune_batch": 4},
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An empty cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("FEDLOOM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def run(cache: Path, data: Path, models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The finished run. Read only."""
    done: Run = fedloom.run(load_config(values=tree(data, models)), out=tmp_path_factory.mktemp("run") / "run")
    return done


def test_nothing_is_pretrained(run, cache):
    families = {folder.name for folder in cache.iterdir()}
    assert "judge" in families
    assert not families & {"tokenizer", "clip", "generator", "captioner", "backbone"}
    text = (run.path / "log.txt").read_text()
    assert "generic part" not in text


def test_it_scores(run, models):
    rows = run.rounds
    assert len(rows) == 3
    for row in rows:
        for key in (
            "image_accuracy",
            "text_accuracy",
            "t2i_accuracy",
            "clip_score",
            "fid",
            "inception_score",
        ):
            assert np.isfinite(row[key]), key
        assert not any(key.startswith("generic") for key in row)
    assert rows[1]["bytes_down"] > 0
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["judge"]["real_test_accuracy"] == 1  # one colour a class
    assert summary["networks"] == {"fid": "vit (vit)", "inception_score": "vit (vit)"}
    assert head(run)["networks"]["fid"] == "vit (vit)"


@pytest.mark.parametrize(
    ("where", "name", "said"),
    [
        ("server.clip.pretrained", "blip", "server.clip .*: holds a blip, allowed: clip"),
        ("server.captioner.pretrained", "clip", "server.captioner .*: holds a clip, allowed: blip"),
        ("evaluation.features", "none", "evaluation.features = .*none.: no such path here"),
        ("evaluation.judge.pretrained", "none", "evaluation.judge.pretrained = .*none.: no such path here"),
        (
            "server.captioner",
            "{pretrained: null, patch: 4}",
            "no public part to pretrain .* or the models",
        ),
        ("server.device", "cuda:77", "device 'cuda:77'"),
    ],
)
def test_wrong_models_end_it_at_once(where, name, said, cache, data, models, tmp_path):
    given = {"none": str(tmp_path / "none"), **models}.get(name, name)
    config = load_config(values=tree(data, models), overrides=[f"{where}={given}"])
    with pytest.raises(BadInput, match=said):
        fedloom.run(config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_judge_is_named_by_its_weights(cache, data, models, tmp_path):
    def key(**changes: Any) -> dict[str, Any]:
        values = tree(data, models)
        values["evaluation"]["judge"] |= changes
        config: Config = load_config(values=values)
        return asset_key(config, cached_dataset(config.data), "judge")

    copied = given_models.vit(tmp_path / "copy")
    assert key(pretrained=str(copied)) == key()
    assert key(pretrained=models["resnet"]) != key()
    assert key(precision="bf16") != key()
    assert key(pretrained=None) != key()
