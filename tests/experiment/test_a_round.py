"""FedMMKT's round, from `fedloom run` to `Client.local_update`: the files that it passes through are listed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import fedloom
from fedloom.cli.main import main
from fedloom.methods.fedmmkt import FedMMKTServer

PACKAGE = Path(fedloom.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "a-round.md"
MOST = 26
WATCHING = {"experiment/pace.py", "progress.py", "cli/live.py"}  # tell and show how far a round is


def listed() -> tuple[set[str], set[str]]:
    """The files that the page names, each in a row of its table: the path, and what the path calls."""
    path, calls = PAGE.read_text().split("## What the path calls")
    return tuple(set(re.findall(r"^\| `([\w/]+\.py)` \|", part, re.M)) for part in (path, calls))  # type: ignore[return-value]


def ours(frame: FrameType) -> str | None:
    """The file of a frame inside the package; None for another's, and for a module that is being imported."""
    path = Path(frame.f_code.co_filename)
    if frame.f_code.co_name == "<module>" or not path.is_relative_to(PACKAGE):
        return None
    return path.relative_to(PACKAGE).as_posix()


def files_of_a_round(monkeypatch: pytest.MonkeyPatch, folder: Path) -> set[str]:
    """Files of the package with a frame on the stack when round 1 begins, or in which a function runs during it."""
    seen: set[str] = set()
    one_round = FedMMKTServer.round

    def profiled(server: FedMMKTServer, federation: Any) -> Any:
        frame: FrameType | None = sys._getframe().f_back
        while frame is not None:
            seen.update(filter(None, [ours(frame)]))
            frame = frame.f_back
        sys.setprofile(lambda frame, event, arg: seen.update(filter(None, [ours(frame)])) if event == "call" else None)
        try:
            return one_round(server, federation)
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(FedMMKTServer, "round", profiled)
    overrides = (
        "rounds=1",
        "engine.workers=0",
        "settings.samples=8",
        "settings.retrain_steps=1",
        "settings.tune_steps=1",
    )
    words = [word for override in overrides for word in ("--set", override)]
    assert main(["run", "--preset", "smoke", "--out", str(folder), "--quiet", *words]) == 0
    return seen


def test_a_round_passes_through_the_files_that_are_listed(monkeypatch, tmp_path):
    path, calls = listed()
    assert len(path) <= MOST
    assert not path & calls
    seen = files_of_a_round(monkeypatch, tmp_path / "run")
    assert seen <= path | calls, f"not listed: {sorted(seen - path - calls)}"
    assert path <= seen, f"no part of a round any more: {sorted(path - seen)}"


def test_what_the_path_calls_decides_nothing():
    """Equations, networks, data, random streams and the cache: not methods, engines or commands."""
    path, calls = listed()
    assert {file.partition("/")[0] for file in calls - WATCHING} == {
        "data",
        "functional",
        "limits.py",
        "models",
        "outside.py",
        "runs",
        "seeding.py",
        "strict_json.py",
    }
    assert all((PACKAGE / file).is_file() for file in path | calls)
