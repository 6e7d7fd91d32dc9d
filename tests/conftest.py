"""What all tests share: a cache of their own, and one small whole run."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fedloom.results import Run

# One thread a process, also of those that tests start: several work side by side. Before torch and NumPy are imported.
for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

# Where torch is told to do without AVX-512, oneDNN must be too: else torch's attention in bf16 takes oneDNN's word for
# what torch itself then refuses ("pack_vnni2 is only supported when avx512 is supported").
if os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("default", "avx2"):
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

# On top of the preset `smoke`: fewer steps, and a quorum low enough that untrained clients keep samples.
SMOKE = (
    *("settings.samples=20", "settings.retrain_steps=2", "settings.private_steps=2"),
    *("settings.tune_steps=2", "settings.tune_batch=8", "settings.gamma=0.2"),
)

# A shell has what it starts with `&` ignore Ctrl-C, and so would all that tests start and end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Files of long tests, the longest first: what is left at the end should be short, or one process works while others
# wait (`--no-loadscope-reorder` leaves the order to us).
LONG = (
    *("test_real_federation", "test_given_generators", "test_generators_elsewhere", "test_presets_in_tiny"),
    *("test_kill_matrix", "test_resume", "test_experiment", "test_engines", "test_python_interface", "test_cli_run"),
    *("test_cli_compare", "test_shared_samples", "test_fedmmkt", "test_paired_rounds", "test_paired_left_out"),
    *("test_paired_belief", "test_paired_distillation", "test_gpu_benchmarks", "test_comparison_runs"),
    *("test_joint_runs", "test_silo_pairs", "test_silo_joint", "test_silo_basics", "test_devices", "test_report_page"),
    *("test_plan", "test_latent", "test_every_method", "test_examples", "test_latent_files"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the order within a file stays."""
    rank = {name: n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def fedloom_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this test session, of all its processes: no test reads or fills the user's own."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLOOM_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests plot is not drawn, which is a quarter of a small run's time: but in tests marked `drawn`, and in what
    fixtures of a wider scope run.
    """
    if "matplotlib" in sys.modules and request.node.get_closest_marker("drawn") is None:
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", lambda self, target, **how: target.write(_blank()))


@functools.cache
def _blank() -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (40, 40), "white").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def jumping_clock() -> Iterator[pytest.MonkeyPatch]:
    """While it is in use, who sleeps in this process wakes at once, by a clock that is as much later."""
    import time

    slept, monotonic, perf_counter = [0.0], time.monotonic, time.perf_counter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", slept.append)
        patch.setattr(time, "monotonic", lambda: monotonic() + sum(slept))
        patch.setattr(time, "perf_counter", lambda: perf_counter() + sum(slept))
        yield patch


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """Nothing waits for the disk: what is written survives a killed process all the same, and no test cuts the power.
    Whether and when it is told to write, tests of `runs` look at themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def smoke_overrides() -> tuple[str, ...]:
    """The `--set` values of `smoke_run`."""
    return SMOKE


@pytest.fixture(scope="session")
def smoke_run(fedloom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished FedMMKT run of two rounds. Read only: copy the folder to change it."""
    import fedloom

    run: Run = fedloom.run(preset="smoke", overrides=SMOKE, out=tmp_path_factory.mktemp("runs") / "smoke")
    return run


@pytest.fixture(scope="session")
def unbroken(smoke_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three rounds without a break, in this process. Read only."""
    import fedloom
    from whole_runs import ROUNDS

    out = tmp_path_factory.mktemp("unbroken") / "run"
    run: Run = fedloom.run(preset="smoke", overrides=(*SMOKE, f"rounds={ROUNDS}"), out=out)
    return run
