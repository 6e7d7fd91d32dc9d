"""Puts the toy clients on the path, also of worker processes (they get this process's sys.path); toy silos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from grid_silos import Silos

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def silos(tmp_path: Path) -> Silos:
    from grid_silos import Silos

    return Silos(tmp_path)
