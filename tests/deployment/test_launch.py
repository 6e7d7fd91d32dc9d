"""`fedloom run --engine flower`: a whole federation up and down again, also when it is interrupted; and simulation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from federation_on_loopback import until
from test_real_federation import WITH_CLIENTS

import fedloom
from fedloom.runs.load import load_run
from test_engines import assert_same, overrides

ROUNDS = "rounds=2"


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that name this folder, or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        if int(entry.name) != os.getpid() and (str(folder) in line or where.startswith(str(folder))):
            found.append(line)
    return found


@pytest.mark.timeout(280)
def test_interrupted_it_leaves_no_process_and_goes_on_to_the_local_numbers(
    fedloom_cache: Path, tmp_path: Path
) -> None:
    local = fedloom.run(preset="smoke", overrides=(*overrides("fedmmkt"), ROUNDS), out=tmp_path / "local")
    out = tmp_path / "run"
    words = ["run", "--preset", "smoke", "--engine", "flower", "--set", "engine.silos=3", "--set", ROUNDS]
    words += [word for value in overrides("fedmmkt") for word in ("--set", value)]
    argv = [sys.executable, "-m", "fedloom.cli", *words, "--out", str(out)]
    with (tmp_path / "said.txt").open("wb") as said:
        started = subprocess.Popen(argv, stdout=said, stderr=said, start_new_session=True)
        until(lambda: (out / "checkpoints" / "round_0000").exists(), 120)
        assert processes_of(tmp_path)
        os.kill(started.pid, signal.SIGINT)
        assert started.wait(60) == 130
    assert f"go on with: fedloom run --resume {out}" in (tmp_path / "said.txt").read_text()
    until(lambda: not processes_of(tmp_path), 10)
    resumed = fedloom.run(resume=out)
    assert_same(resumed, local)
    assert processes_of(tmp_path) == []
    assert {p.name for p in (out / "export").iterdir()} == {p.name for p in (local.path / "export").iterdir()}
    assert {p.name for p in (out / "federation").iterdir()} == {"server", "logs"}


@pytest.mark.timeout(120)
def test_killed_it_leaves_no_process(fedloom_cache: Path, tmp_path: Path) -> None:
    """kill -9 of the process that brought everything up: the kernel and the pipes end the rest."""
    argv = [sys.executable, "-m", "fedloom.cli", "run", "--preset", "smoke", "--engine", "flower"]
    argv += ["--set", "engine.silos=2", "--out", str(tmp_path / "run")]
    started = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until(lambda: len(processes_of(tmp_path)) >= 6, 60)
    time.sleep(1.0)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    until(lambda: not processes_of(tmp_path), 30)


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(("fedmmkt",), id="fedmmkt", marks=pytest.mark.timeout(300)),
        pytest.param(
            tuple(m for m in WITH_CLIENTS if m != "fedmmkt"),
            id="all-others",
            marks=pytest.mark.timeout(1800),
        ),
    ],
)
@pytest.mark.conformance  # Ray alone takes a minute of two processors to come up
def test_simulation_gives_the_local_numbers(
    fedloom_cache: Path, tmp_path: Path, methods: tuple[str, ...]
) -> None:
    code = """
import sys, fedloom
from pathlib import Path
for method, *given in (line.split() for line in sys.argv[2:]):
    engine = ("engine.name=flower", "engine.mode=simulation", "engine.silos=3", "engine.cpus=0.5")
    fedloom.run(preset="smoke", method=method, overrides=(*given, *engine), out=Path(sys.argv[1]) / method)
"""
    given = {m: (*overrides(m), ROUNDS) for m in methods}
    lines = [" ".join((m, *g)) for m, g in given.items()]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for method, own in given.items():
        local = fedloom.run(preset="smoke", method=method, overrides=own, out=tmp_path / f"local-{method}")
        assert_same(load_run(tmp_path / method), local)
