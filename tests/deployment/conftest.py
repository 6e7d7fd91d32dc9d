from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised_silo import Silo


@pytest.fixture
def silo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silo]:
    """A silo over stand-ins, not yet started."""
    made = Silo(tmp_path, monkeypatch)
    yield made
    made.supervisor.stop()
    for _, child, _ in made.started:
        child.stop(0.0)


@pytest.fixture
def up(silo: Silo) -> Silo:
    """A silo over stand-ins that has been started."""
    silo.supervisor.start()
    return silo
