"""Runs that are stopped or resumed otherwise; killed ones are `test_kill_matrix`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.config import Config
from fedloom.config.trees import validate
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.clients import build_client, client_specs
from fedloom.experiment.pretraining import Assets
from fedloom.results import Run
from whole_runs import ROUNDS, assert_equal, smallest

pytestmark = pytest.mark.drawn


def test_resuming_a_finished_run_changes_nothing(unbroken):
    before = {p: p.stat().st_mtime_ns for p in unbroken.path.rglob("*") if p.is_file() and p.name != ".lock"}
    again = fedloom.run(resume=unbroken.path)
    assert again.summary == unbroken.summary
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize("other", ["seed=1", "settings.gamma=0.3", "rounds=4", "clients.batch=9"])
def test_resuming_with_another_configuration(other, unbroken, smoke_overrides):
    same = (*smoke_overrides, f"rounds={ROUNDS}")
    key = other.partition("=")[0]
    with pytest.raises(BadInput, match=f"another configuration: {key}: the run has"):
        fedloom.run(resume=unbroken.path, preset="smoke", overrides=(*same, other))
    fedloom.run(resume=unbroken.path, preset="smoke", overrides=(*same, "engine.workers=2"))  # no result depends on it


def test_data_that_change_while_a_run_begins(unbroken):
    """A worker process reads them minutes after the run did: they must be the same."""
    config = validate(Config, unbroken.config)
    spec = client_specs(config, config.method, config.settings, Assets(None), data="0" * 64)[0]
    with pytest.raises(FedloomError, match="flora: the data have changed since the run began"):
        build_client(name=spec.name, **spec.arguments)


def test_resuming_what_is_no_run(tmp_path):
    with pytest.raises(BadInput, match="no run folder"):
        fedloom.run(resume=tmp_path)


# ------------------------------------------------------------------------------------------- stopped early


def stopped(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def stop_in(point: str, patch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """Interrupt the next run in its pretraining, its warm start, or its scoring of round 0."""
    if point == "pretraining":
        patch.setenv("FEDLOOM_CACHE", str(empty_cache))
        patch.setattr("fedloom.experiment.pretraining.assets.build_side_by_side", stopped)
    elif point == "warm start":
        patch.setattr("fedloom.experiment.clients._warm_start", stopped)
    else:
        patch.setattr("fedloom.experiment.scoring.Scorer.clients", stopped)


@pytest.mark.parametrize("point", ["pretraining", "warm start", "round 0"])
@pytest.mark.parametrize("out", [None, "here"])
def test_stopped_before_round_0(point, out, smoke_run, monkeypatch, tmp_path):
    """No folder stays behind, so the same call works, and in the same place."""
    monkeypatch.chdir(tmp_path)
    few: dict[str, Any] = {"preset": "smoke", "overrides": ("method=standalone", "rounds=0"), "out": out}
    place = tmp_path / (out or "runs/standalone-flora-0")
    with monkeypatch.context() as patch:
        stop_in(point, patch, tmp_path / "cache")
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(**few)
    assert not place.exists()
    again = fedloom.run(**few)
    assert again.finished
    assert again.path.resolve() == place


def test_wrong_weights_leave_no_folder(smoke_run, tmp_path):
    """They are read where the clients are built, long after the folder is made."""
    tree = smallest(method="standalone", rounds=0, clients={"text": [{"arch": "bert", "pretrained": "/no/such"}]})
    tree["clients"]["image"] = []
    with pytest.raises(FedloomError, match="/no/such"):
        fedloom.run(Config(**tree), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stopped_after_round_0(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    """What is done stays, also where the resumed run is stopped again before it comes to a round."""
    from fedloom.methods.fedmmkt import FedMMKTServer

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(FedMMKTServer, "round", stopped)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(preset="smoke", overrides=smoke_overrides, out=out)
    with monkeypatch.context() as patch:
        patch.setattr("fedloom.experiment.clients._warm_start", stopped)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(resume=out)
    assert_equal(smoke_run, fedloom.run(resume=out))


def test_a_killed_run_is_resumed_from_nothing_and_stopped(smoke_run, smoke_overrides, monkeypatch, tmp_path):
    """A folder that was there before the call stays, though it has no checkpoint yet."""
    from fedloom.runs.folder import RunFolder

    RunFolder.create(tmp_path / "run", smoke_run.config)
    with monkeypatch.context() as patch:
        stop_in("round 0", patch, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            fedloom.run(resume=tmp_path / "run")
    assert_equal(smoke_run, fedloom.run(resume=tmp_path / "run"))


# -------------------------------------------------------------------------------------------- fewer checkpoints


def test_between_two_checkpoints(unbroken: Run, smoke_overrides: tuple[str, ...], tmp_path: Path) -> None:
    """Stopped after round 1, whose row is written and which left no checkpoint: it is done again."""

    class Stop(fedloom.progress.Observer):
        def round(self, row: dict[str, Any]) -> None:  # type: ignore[override]
            if row["round"] == 1:
                raise KeyboardInterrupt

    out, few = tmp_path / "run", ("checkpoints.every=2", "checkpoints.keep=1")
    given = (*smoke_overrides, f"rounds={ROUNDS}", *few)
    with pytest.raises(KeyboardInterrupt):
        fedloom.run(preset="smoke", overrides=given, out=out, observer=Stop())
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["round_0000"]
    assert_equal(fedloom.run(resume=out), unbroken)
    assert [p.name for p in (out / "checkpoints").iterdir()] == [f"round_{ROUNDS:04d}"]


def test_silos_need_every_checkpoint() -> None:
    with pytest.raises(BadInput, match=r"checkpoints\.every = 2"):
        fedloom.config.load_config(overrides=["engine.name=flower", "checkpoints.every=2"])
