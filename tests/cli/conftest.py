from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedloom.cli.main import main
from tiny_hub import hub as hub


@dataclass(frozen=True)
class Result:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON: fails if anything else is there."""
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def call(*args: object) -> Result:
        code = main([str(a) for a in args])
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return call
