from __future__ import annotations

from pathlib import Path

import pytest

from tiny_hub import hub as hub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "weights"
