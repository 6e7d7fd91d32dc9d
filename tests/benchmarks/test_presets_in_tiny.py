"""The presets at the size of the paper, through all that a run is, with tiny random weights under the real names.

The accelerator is a pretended one. Nothing may ask a network. Arithmetic is fp32 where pictures are large for a
processor that has no instructions for bf16, which the presets take; in bf16 the latent generator runs here, and each
part alone in `tests/models`.
"""

from __future__ import annotations

import csv
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fedloom
from fedloom.cli.main import main
from fedloom.config import load_config
from fedloom.models.generators.families import family_of
from pretend import DEVICE, OTHER, pretended

pytestmark = pytest.mark.drawn

SPECIES = ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")
DISHES = ("apple_pie", "ramen", "tacos")
SMALL = (
    *("rounds=1", "data.minimum=1", "clients.warm_steps=1", "clients.batch=4", "server.tokens=16"),
    *("server.generator.sampling_steps=2", "server.captioner.max_tokens=4", "evaluation.judge.steps=1"),
    *("evaluation.prompts_per_class=2", "settings.samples=6", "settings.private_steps=1", "settings.gamma=0"),
    *("settings.retrain_steps=1", "settings.tune_steps=1", "settings.tune_batch=2"),
)
WHOLE = ("server.precision=fp32", "clients.precision=fp32", "evaluation.judge.precision=fp32")
HERE = (f"server.device='{DEVICE}'", f"clients.devices=['{DEVICE}','{OTHER}']")


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flowers-102 in its official layout, the first three classes."""
    import made_flowers102

    folder: Path = tmp_path_factory.mktemp("data") / "flowers102"
    made_flowers102.write(folder, 40, classes=3, per_class=(5, 3, 2))
    return folder


@pytest.fixture(scope="module")
def food(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UPMC Food-101 in its official layout, three dishes."""
    folder: Path = tmp_path_factory.mktemp("data") / "food101"
    rng = np.random.default_rng(0)
    (folder / "texts").mkdir(parents=True)
    for part, each in (("train", 8), ("test", 2)):
        rows = []
        for dish in DISHES:
            place = folder / "images" / part / dish
            place.mkdir(parents=True)
            for n in range(each):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{dish}_{n}.jpg")
                rows.append((f"{dish}_{n}.jpg", f"how to make {dish}, number {n}", dish))
        with (folder / "texts" / f"{part}_titles.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network."""

    def refuse(*given: Any, **more: Any) -> None:
        raise AssertionError(f"asked a network: {given[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


CASES = {
    "paper/flowers102-glide": ("flowers", 64, "glide"),
    "paper/flowers102-sd,mix/images": ("flowers", 64, "latent"),
    "paper/food101-glide,mix/hetero": ("food", 64, "glide"),
}


@pytest.mark.conformance
@pytest.mark.parametrize("preset", CASES)
def test_from_folders_to_exports(preset: str, weights: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data, side, family = CASES[preset]
    if "sd" in preset:  # what scores FID in the presets, once
        import random_weights

        random_weights.put(weights, "fid/inception-v3", "tiny")
        more = [f"data.options.size={side}"]
    else:
        more = ["evaluation.features=null", *WHOLE]
    if data == "flowers":
        more.append(f"data.options.classes={list(SPECIES)}")
    given = [*SMALL, *HERE, f"data.root={request.getfixturevalue(data)}", *more]
    config = load_config(preset=preset, overrides=given)
    with pretended():
        run = fedloom.run(config, out=tmp_path / "run")
    rows = run.rounds
    assert rows[1]["missing"] == []
    assert rows[1]["losses"]["generator"] > 0
    assert rows[1]["losses"]["clients"] > 0
    assert run.summary["networks"]["fid"].startswith("Inception-v3" if "sd" in preset else "judge")

    plan = fedloom.plan(config)
    assert (plan.bytes_up, plan.bytes_down) == (rows[1]["formula_up"], rows[1]["formula_down"])
    assert plan.missing == ()
    assert rows[1]["bytes_up"] == pytest.approx(plan.bytes_up, rel=0.02)

    check_exports(run, family, config)
    out = tmp_path / "drawn.png"
    assert main(["generate", str(run.path), "--prompt", "a rose", "--n", "2", "--out", str(out)]) == 0
    assert Image.open(out).size[0] >= 2 * side


def check_exports(run: Any, family: str, config: Any) -> None:
    """Folders that the libraries load: the generator's family, and each client's own class."""
    import transformers

    assert family_of(run.path / "export" / "generator") == family
    for modality, kind in (("image", "ImageClassification"), ("text", "SequenceClassification")):
        for name, settings in zip(config.clients.names(modality), config.clients.models(modality)):
            auto = getattr(transformers, f"AutoModelFor{kind}")
            model = auto.from_pretrained(run.path / "export" / name, local_files_only=True)
            assert model.config.model_type == settings.arch
            assert len(model.config.id2label) == 3
