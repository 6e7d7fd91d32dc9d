"""The judge of the study `food` that shares no features with the clients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evidence import second_judge
from evidence.second_judge import EMOJI, FOOD, SecondJudge

from fedloom.config import DataSettings
from fedloom.errors import BadInput
from fedloom.metrics.base import Evaluation
from tiny_mobilenet import tiny, write


@pytest.fixture
def judge(tmp_path: Path, fedloom_cache: Path) -> SecondJudge:
    """On a MobileNet that knows nothing, of pictures of flowers."""
    data = DataSettings(name="flora", options={"images": 60, "test": 20})
    return SecondJudge(Path(f"{write(tmp_path / 'net', *tiny())}.npz"), data)


def test_it_learns_real_pictures_and_says_what_it_sees(judge: SecondJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 <= judge.real_accuracy <= 1
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    seen = judge.see(images)
    assert seen.shape == (6,)
    assert set(seen.tolist()) <= set(range(10))
    monkeypatch.setattr(second_judge, "judge_of", lambda *names: judge)
    labels = seen.copy()
    labels[:3] = (labels[:3] + 1) % 10
    assert EMOJI.compute(Evaluation(1, images=images, labels=labels)) == 0.5
    assert FOOD.compute(Evaluation(1)) is None


def test_folders_that_are_not_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    second_judge.judge_of.cache_clear()
    monkeypatch.delenv("MOBILENET", raising=False)
    monkeypatch.delenv("FOOD101_RECIPES", raising=False)
    with pytest.raises(BadInput, match="the second judge needs MOBILENET and FOOD101_RECIPES in the environment"):
        FOOD.compute(Evaluation(1, images=np.zeros((1, 2, 2, 3), np.uint8), labels=np.zeros(1, np.int64)))
