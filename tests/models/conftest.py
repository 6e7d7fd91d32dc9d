"""One thread, and the smallest tokenizer, CLIP, generator and stored MobileNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_mobilenet import tiny, write

from fedloom.config.models import ClipSettings, GeneratorSettings
from fedloom.models.clients.text import train_tokenizer
from fedloom.models.evaluators.clip import Clip, build_clip
from fedloom.models.generators.pixel import Generator, build_generator

torch.set_num_threads(1)

TEXTS = ("a red flower with five petals", "a blue flower with round petals", "a picture of iris")
SIDE, WIDTH = 12, 10  # of pictures in pixels, of representations


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS * 4, vocabulary=60, length=10)


@pytest.fixture(scope="session")
def clip(tokenizer: Any) -> Clip:
    torch.manual_seed(0)
    return build_clip(ClipSettings(hidden=16, layers=1, heads=2, patch=6, width=16), tokenizer, SIDE).eval()


@pytest.fixture
def generator(clip: Clip) -> Generator:
    torch.manual_seed(0)
    settings = GeneratorSettings(channels=(16, 16), heads=2, unshuffle=3, sampling_steps=2, guidance=2.0)
    return build_generator(settings, clip, SIDE, WIDTH).eval()


@pytest.fixture(scope="session")
def pictures() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny_0.5_16", *tiny())
