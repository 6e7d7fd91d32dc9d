"""One thread, the toy sites on the path, and the smallest generator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory):
    """A folder with a generator that has learned nothing."""
    from toy_sites import SIDE, WIDTH, words

    from fedloom.config.models import ClipSettings, GeneratorSettings
    from fedloom.models.evaluators.clip import build_clip
    from fedloom.models.generators.pixel import build_generator

    torch.manual_seed(0)
    clip = build_clip(ClipSettings(hidden=16, layers=1, heads=2, patch=6, width=16), words(), SIDE)
    sizes = GeneratorSettings(channels=(16, 16), heads=2, unshuffle=3, sampling_steps=2)
    folder = tmp_path_factory.mktemp("generator")
    build_generator(sizes, clip, SIDE, WIDTH).save(folder)
    return folder
