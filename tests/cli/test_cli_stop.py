"""`fedloom stop`: a run ends after its round, or at once, and goes on to the same numbers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedloom.runs.folder import RunFolder
from fedloom.runs.load import read_run

SMALL = ("--set", "rounds=4", "--set", "checkpoints.every=3", "--quiet")


def begun(*more: str) -> subprocess.Popen[str]:
    """A run in a process of its own, which has written rounds 0 and 1."""
    words = [sys.executable, "-m", "fedloom.cli", "run", "--preset", "smoke", "--out", "there", *SMALL, *more]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    rows = Path("there/metrics.jsonl")
    while process.poll() is None and (not rows.exists() or rows.read_text().count("\n") < 2):
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("now", [False, True])
def test_it_ends_and_goes_on_to_the_same_numbers(cli, tmp_path, now):
    process = begun()
    asked = cli("stop", "there", *(["--now"] if now else []))
    said = process.communicate(timeout=120)[1]
    assert asked.code == 0
    assert "fedloom run --resume there" in asked.out
    assert process.returncode == 130
    assert ("interrupted" if now else "stopped after round") in said
    assert "fedloom run --resume there" in said
    done = len(read_run(Path("there")).rounds) - 1
    assert done < 4
    assert cli("run", "--resume", "there", "--quiet").code == 0
    assert cli("run", "--preset", "smoke", "--out", "whole", *SMALL).code == 0
    one, two = (read_run(Path(folder)).rounds for folder in ("there", "whole"))
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in one] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in two
    ]


def test_a_run_that_nobody_is_at(cli, smoke_run):
    shown = cli("stop", str(smoke_run.path))
    assert (shown.code, shown.out) == (2, "")
    assert "no process of this machine is at this run" in shown.err


def test_who_asks_twice_is_told_since_when(cli, smoke_run, tmp_path):
    folder = shutil.copytree(smoke_run.path, tmp_path / "run")
    with RunFolder.open(folder).exclusive():
        first, second = cli("stop", str(folder)), cli("stop", str(folder))
    assert (first.code, second.code) == (0, 0)
    assert "asked" not in first.out
    assert re.search(
        r"ends after its round \(it was asked to at \d\d:\d\d:\d\d, \d+ s ago\)", " ".join(second.out.split())
    )


def test_no_run(cli):
    shown = cli("stop", "nowhere")
    assert (shown.code, shown.out) == (2, "")
    assert "nowhere: expected a run folder" in shown.err
