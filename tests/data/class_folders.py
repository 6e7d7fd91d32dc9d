"""A folder of pictures for each of three classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import picture
from fedloom.data.containers import FederatedDataset
from fedloom.data.datasets.folder import load

NAMES = ("adder", "boa", "cobra")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """images/<class>/pNNN.jpg, six a class."""
    for c, name in enumerate(NAMES):
        for i in range(6):
            picture(tmp_path / "images" / name / f"p{i:03d}.jpg", c, i, side=(64, 64))
    return tmp_path


def read(root: Path, **options: Any) -> FederatedDataset:
    return load(root, **{"size": 8, "generic_share": 0, **options})


def count(dataset: FederatedDataset, part: str = "train") -> int:
    return len(getattr(dataset, part)["image"])
