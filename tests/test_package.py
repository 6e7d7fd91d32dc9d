"""The wheel and the sdist, in an environment that holds nothing else; `make package-check`, part of `make conformance`.

Downloads what fedloom depends on. `--help` is held to processor seconds: wall seconds say how busy the machine is.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import fedloom

pytestmark = pytest.mark.conformance
ROOT = Path(__file__).resolve().parents[1]
HELP = 0.4  # processor seconds that `--help` may take, median of REPEATS
REPEATS = 9
Call = Callable[..., str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return place


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Calls a program of an environment in which the wheel was installed; gives its stdout."""
    place = tmp_path_factory.mktemp("empty")
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    clean |= {"FEDLOOM_CACHE": str(place / "cache")}

    def call(program: str, *words: str) -> str:
        command = [str(place / "venv" / "bin" / program), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=place)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True, env=clean)
    call("python", "-m", "pip", "install", "--quiet", str(next(built.glob("*.whl"))))
    return call


def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    source = ROOT / "src"
    files = {str(p.relative_to(source)) for p in (source / "fedloom").rglob("*") if p.is_file()}
    files = {name for name in files if "__pycache__" not in name and not name.endswith(".pyc")}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    assert files - held == set()
    assert {name for name in held if ".dist-info/" not in name} - files == set()


def test_the_sdist_holds_what_it_is_built_from(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/fedloom/__init__.py"} <= held


def test_it_is_imported_and_says_its_version(installed: Call) -> None:
    assert installed("python", "-c", "import fedloom; print(fedloom.__version__)").strip() == fedloom.__version__
    assert fedloom.__version__ in installed("fedloom", "--version")


def test_help_is_fast(installed: Call) -> None:
    took = []
    for _ in range(REPEATS + 1):  # the first compiles
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        installed("fedloom", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(took[1:]) < HELP, took


def test_a_smoke_run(installed: Call) -> None:
    said = installed("fedloom", "run", "--preset", "smoke", "--quiet", "--out", "run")
    assert "Image clients" in said
