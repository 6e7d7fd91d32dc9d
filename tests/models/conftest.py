"""One thread, and the smallest tokenizer, CLIP, generator and stored MobileNet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedloom.config.models import ClipSettings, GeneratorSettings
from fedloom.models.clients.text import train_tokenizer
from fedloom.models.evaluators.clip import Clip, build_clip
from fedloom.models.generators.pixel import Generator, build_generator
from tiny_mobilenet import tiny, write

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


STRANGER = """
import sys, numpy, torch
from diffusers import DiffusionPipeline
torch.set_num_threads(1)
folder, out = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
draws = torch.Generator().manual_seed(2)
numpy.save(out, pipe(["a picture of iris"] * 2, generator=draws, output_type="np").images)
assert not any(name.split(".")[0] == "fedloom" for name in sys.modules)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[Path], Any]:
    """What a saved generator draws where there is no fedloom: the code that was saved with it is enough."""

    def drawn(folder: Path) -> Any:
        out = tmp_path / "pictures.npy"
        away = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        away |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-P", "-c", STRANGER, str(folder), str(out)]
        subprocess.run(command, env=away, cwd=tmp_path, check=True, capture_output=True)
        return np.load(out)

    return drawn
