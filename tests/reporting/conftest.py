from __future__ import annotations

from pathlib import Path

import pytest

from made_up_run import make_run  # type: ignore[import-not-found]


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with image and text clients. Read only."""
    return make_run(tmp_path_factory.mktemp("runs") / "fedmmkt-flora-0")
