"""Whoever is killed, by SIGKILL, in whichever stage: the run goes on to the figures of an unbroken one. 40 cells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.results import Run
from kill_points import Case
from test_engines import assert_same
from whole_runs import ROUNDS, assert_equal

pytestmark = pytest.mark.drawn

# Who dies -> of each stage of a run the points, each with its round.
MATRIX: dict[str, dict[str, list[tuple[str, int]]]] = {
    "server": {
        "synthesis": [("synthesis", 1), ("synthesis", 3)],
        "training": [("training", 2), ("training", 3)],
        "checkpoint": [("saving", 1), ("sealing", 2)],
        "report": [("exporting", ROUNDS), ("summary", ROUNDS)],
    },
    "server with workers": {
        "synthesis": [("synthesis", 2), ("synthesis", 3)],
        "training": [("asked", 1), ("asked", 3)],
        "checkpoint": [("sealing", 0), ("pruning", 3)],
        "report": [("exporting", ROUNDS), ("summary", ROUNDS)],
    },
    "worker": {
        "synthesis": [("synthesis", 1), ("synthesis", 3)],
        "training": [("training", 1), ("training", 3)],
        "checkpoint": [("saving", 1), ("saving", 3)],
        "report": [("scoring", 1), ("scoring", 3)],
    },
    "flower server": {
        "synthesis": [("synthesis", 1), ("synthesis", 3)],
        "training": [("asked", 1), ("asked", 3)],
        "checkpoint": [("sealing", 1), ("pruning", 3)],
        "report": [("concluding", ROUNDS), ("summary", ROUNDS)],
    },
    "silo": {
        "synthesis": [("synthesis", 1), ("synthesis", 3)],
        "training": [("training", 1), ("training", 3)],
        "checkpoint": [("keeping", 1), ("kept", 3)],
        "report": [("exporting", 0), ("exporting", 1)],
    },
}
CELLS = [Case(who, *point) for who, stages in MATRIX.items() for points in stages.values() for point in points]
ORDINARY = {"server-synthesis-3", "server-saving-1", "server-sealing-2"}
TIMED = {"seconds", "peak_memory_bytes"}


def test_there_are_forty_cells() -> None:
    assert len({case.name for case in CELLS}) == 40
    assert {len(points) for stages in MATRIX.values() for points in stages.values()} == {2}


@pytest.fixture(scope="module")
def killed(
    request: pytest.FixtureRequest,
    unbroken: Run,
    smoke_overrides: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folders of runs that were killed, one a cell that is tested now, by its name."""
    tested = {item.name for item in request.session.items}
    cases = [case for case in CELLS if f"test_killed_and_resumed[{case.name}]" in tested]
    root = tmp_path_factory.mktemp("killed")
    overrides = json.dumps([*smoke_overrides, f"rounds={ROUNDS}"])
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-P", "-m", "kill_points", str(root), overrides, json.dumps(cases)]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def _sums(run: Run) -> list[Any]:
    return sorted((r["round"], r["client"], r["verb"], r["encoded_bytes"]) for r in run.ledger)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name, marks=() if c.name in ORDINARY else pytest.mark.conformance) for c in CELLS],
)
def test_killed_and_resumed(case: Case, killed: Path, unbroken: Run) -> None:
    """The same rows, weights, ledger and summary."""
    assert (killed / f"{case.name}.status").read_text() == str(-signal.SIGKILL)
    folder = killed / case.name
    assert not fedloom.load_run(folder).finished
    grid = case.grid(killed)
    resumed = fedloom.run(resume=folder, grid=grid)
    assert resumed.finished
    if grid is not None:
        assert_same(resumed, unbroken)
    else:
        assert_equal(unbroken, resumed)
        assert _sums(unbroken) == _sums(resumed)
    one, two = ({k: v for k, v in run.summary.items() if k not in TIMED} for run in (unbroken, resumed))
    assert one == two
    assert not list((folder / "checkpoints").glob(".*"))  # what the killed writer left is swept away
