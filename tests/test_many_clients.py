"""Runs whose clients wait on disk: the same to the last bit, whoever comes and goes, and whatever it is resumed with.

All methods: `test_engines`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.results import Run
from fedloom.runs.folder import RunFolder
from whole_runs import assert_equal

pytestmark = pytest.mark.drawn

SMALL = ("settings.private_steps=2",)
GOING = {"share": 0.7, "late": 0.2, "away": 0.2, "join": {"text-1": 2}, "leave": {"image-1": 3}}
WAITING = "engine.resident=1"


def run(folder: Path, method: str, *overrides: str, **changes: Any) -> Run:
    tree = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()]
    made: Run = fedloom.run(preset="smoke", method=method, overrides=(*SMALL, *tree, *overrides), out=folder)
    return made


def test_private_clients_keep_their_budgets(fedloom_cache: Any, tmp_path: Path) -> None:
    pytest.importorskip("opacus")
    private = {"clients__privacy": {"epsilon": 8, "delta": 1e-3}, "settings__samples": 20}
    one, two = (run(tmp_path / name, "fedmd", *more, **private) for name, more in (("a", ()), ("b", (WAITING,))))
    assert one.summary["privacy"]["image-0"]["steps"] > 0
    assert_equal(two, one)


def test_a_secure_sum_under_way_survives(fedloom_cache: Any, tmp_path: Path) -> None:
    pytest.importorskip("flwr")
    alike = {"clients__image": [{"arch": "vit", "hidden": 16, "layers": 1, "heads": 2, "patch": 6, "width": 16}]}
    alike["clients__image"][0]["count"] = 3
    given = {**alike, "clients__text": [], "settings__secure": True}
    one, two = (run(tmp_path / name, "fedavg", *more, **given) for name, more in (("a", ()), ("b", (WAITING,))))
    assert not any(row["missing"] for row in two.rounds)
    assert_equal(two, one)


@pytest.fixture(scope="module")
def going(fedloom_cache: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("going") / "run", "fedloom", "rounds=3", participation=GOING)


@pytest.mark.conformance
def test_clients_that_come_and_go_in_worker_processes(going: Run, tmp_path: Path) -> None:
    made = run(tmp_path / "run", "fedloom", "rounds=3", WAITING, "engine.workers=2", participation=GOING)
    assert_equal(made, going)
    assert not (made.path / "parked").exists()


def test_a_run_goes_on_with_more_of_them_in_memory_or_fewer(
    going: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedloom.methods.fedloom import FedloomServer

    plain = FedloomServer.round

    def stopping(at: int) -> Any:
        def round(self: Any, federation: Any) -> Any:
            if federation.round == at:
                raise KeyboardInterrupt
            return plain(self, federation)

        return round

    monkeypatch.setattr(FedloomServer, "round", stopping(2))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", "fedloom", "rounds=3", WAITING, participation=GOING)
    monkeypatch.setattr(FedloomServer, "round", stopping(3))
    config = RunFolder.open(tmp_path / "run").config
    with pytest.raises(KeyboardInterrupt):
        fedloom.run({**config, "engine": {**config["engine"], "resident": 3}}, resume=tmp_path / "run")
    monkeypatch.setattr(FedloomServer, "round", plain)
    assert_equal(fedloom.resume(tmp_path / "run"), going)


def test_a_class_that_appears(fedloom_cache: Any, tmp_path: Path) -> None:
    """What a client has of it is part of its state."""
    given = {"participation__classes": {"daisy": 2}}
    one, two = (run(tmp_path / name, "fedproto", *more, **given) for name, more in (("a", ()), ("b", (WAITING,))))
    assert_equal(two, one)
