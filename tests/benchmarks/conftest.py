"""One thread, the benchmarks on the path, and every model of the paper's presets in tiny."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
torch.set_num_threads(1)

from made_up_study import kept, made_up, script, study  # noqa: E402, F401


@pytest.fixture(scope="session")
def all_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a folder for each model. Read only."""
    import random_weights

    root = tmp_path_factory.mktemp("weights")
    for name in random_weights.MODELS:
        if name != "fid/inception-v3":
            random_weights.put(root, name, "tiny")
    return root


@pytest.fixture
def weights(all_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That root, which `FEDLOOM_WEIGHTS` names as long as the test lasts."""
    monkeypatch.setenv("FEDLOOM_WEIGHTS", str(all_weights))
    return all_weights
