"""One thread, the benchmarks on the path, and every model of the paper's presets in tiny."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root with a folder for each model, which `FEDLOOM_WEIGHTS` names. Read only."""
    import random_weights

    root = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLOOM_WEIGHTS", str(root))
        for name in random_weights.MODELS:
            if name != "fid/inception-v3":
                random_weights.put(root, name, "tiny")
        yield root
