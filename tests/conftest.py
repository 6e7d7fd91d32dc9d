"""What all tests share: a cache of their own, and one small whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedloom.runs.load import Run
from whole_runs import ROUNDS

# On top of the preset `smoke`: fewer steps, and a quorum low enough that untrained clients keep samples.
SMOKE = (
    *("settings.samples=20", "settings.retrain_steps=2", "settings.private_steps=2"),
    *("settings.tune_steps=2", "settings.tune_batch=8", "settings.gamma=0.2"),
)


# Files of long tests, the longest first: what is left at the end should be short, or one process works while others
# wait (`--no-loadscope-reorder` leaves the order to us).
LONG = (
    *("test_real_federation", "test_engines", "test_resume", "test_examples", "test_experiment"),
    *("test_cli_compare", "test_cli_bad_input", "test_cli_run", "test_comparison_runs", "test_server_app"),
    "test_report_page",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the order within a file stays."""
    rank = {name: n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def fedloom_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this test session, of all its processes: no test reads or fills the user's own."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLOOM_CACHE", str(folder))
        yield folder


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

    out = tmp_path_factory.mktemp("unbroken") / "run"
    run: Run = fedloom.run(preset="smoke", overrides=(*SMOKE, f"rounds={ROUNDS}"), out=out)
    return run
