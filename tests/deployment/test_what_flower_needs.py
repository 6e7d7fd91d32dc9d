"""What the Flower engine needs installed is told before anything is written."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

import fedloom
from fedloom.errors import BadInput


@pytest.mark.parametrize(
    ("lacking", "mode", "said"),
    [
        ("ray", "simulation", r"engine\.mode = 'simulation' needs ray, .*: pip install 'fedloom\[simulation\]'"),
        ("flwr", "simulation", "the Flower engine needs flwr, which is not installed"),
        ("cryptography", "loopback", "the Flower engine needs cryptography, which is not installed"),
    ],
)
def test_what_is_not_installed(
    lacking: str, mode: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = metadata.version

    def version(name: str) -> str:
        if name == lacking:
            raise metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(BadInput, match=said):
        fedloom.run(preset="smoke", method="standalone", engine={"name": "flower", "mode": mode}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("version", ["1.0.0", "99.1"])
def test_a_flower_of_another_age(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with pytest.raises(BadInput, match=rf"flwr is {version}, allowed: at least 1\.\d+ and below"):
        fedloom.run(preset="smoke", method="standalone", engine={"name": "flower"}, out=tmp_path / "run")
