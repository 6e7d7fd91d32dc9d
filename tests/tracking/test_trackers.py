"""Trackers: what they are told, and that none of them ends a run. Of the real tools: test_real_trackers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.cli.main import main
from fedloom.errors import BadInput
from fedloom.progress import Observer
from fedloom.registry import TRACKERS
from fedloom.runs import RunFolder
from fedloom.tracking import base
from fedloom.tracking.base import Careful, RunTracker, flat, tracked
from made_up_run import make_run, row  # type: ignore[import-not-found]

SMALL = {"preset": "smoke", "method": "standalone", "rounds": 1, "keep": False}


class Kept(RunTracker):
    """Keeps what it is told."""

    name, module = "kept", "json"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []

    def start(self, folder: RunFolder, title: str, config: Mapping[str, Any], resumed_at: int) -> None:
        self.told.append(("start", title, config["settings.quorum"], resumed_at))

    def log(self, round: int, values: Mapping[str, float]) -> None:
        self.told.append(("log", round, values["scores/image_accuracy"]))

    def picture(self, round: int, name: str, path: Path) -> None:
        self.told.append(("picture", round, name, path.name))

    def finish(self, failed: bool) -> None:
        self.told.append(("finish", failed))


def test_what_a_tracker_is_told(tmp_path):
    path, kept = make_run(tmp_path / "run"), Kept()
    with tracked(Observer(), {"kept": kept}) as watch:
        watch.begin({"folder": path, "method": "fedmmkt", "data": "flora", "resumed_at": 0})
        for round in (0, 1):
            watch.round(row(round, 0))
    assert kept.told == [
        ("start", "fedmmkt on flora: run", 3, 0),
        ("log", 0, 0.42),
        ("picture", 0, "pictures/samples", "round_0000.png"),
        ("log", 1, pytest.approx(0.51, abs=0.01)),
        ("picture", 1, "pictures/samples", "round_0001.png"),
        ("picture", 1, "pictures/labels", "labels_0001.png"),
        ("finish", False),
    ]


def test_a_run_that_fails_is_told_and_one_that_never_began_is_not(tmp_path):
    begun, unbegun = Kept(), Kept()

    def fail(watch: Observer) -> None:
        watch.begin({"folder": make_run(tmp_path / "run"), "method": "m", "data": "d", "resumed_at": None})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), tracked(Observer(), {"a": begun}) as watch:
        fail(watch)
    with tracked(Observer(), {"b": unbegun}):
        pass
    assert (begun.told[-1], unbegun.told) == (("finish", True), [])


def test_numbers_of_a_row():
    found = flat({**row(2, 0), "metrics": {"worst": 0.25}, "suspects": {"image-0": {}}})
    assert found["scores/fid"] == pytest.approx(47, abs=1)
    assert "scores/inception_score" not in found  # null
    assert (found["bytes/up"], found["clients/missing"], found["metrics/worst"]) == (36440, 1, 0.25)
    assert {
        "clients/image-0",
        "labels/kept_share",
        "losses/generator",
        "seconds/fusion",
        "facts/weight_entropy",
    } <= set(found)
    assert "labels/kept_classes" not in found  # a list
    assert all(isinstance(value, float) for value in found.values())


class Failing(Observer):
    """Fails in every round."""

    rounds = 0

    def round(self, row: Mapping[str, Any]) -> None:
        Failing.rounds += 1
        raise ConnectionError("the server\nis down")


def test_a_tracker_that_fails_ends_no_run(tmp_path, capsys):
    class Said(Observer):
        lines: list[str] = []  # noqa: RUF012 - of this test alone

        def filled(self, line: str) -> None:
            self.lines.append(line)

    run = fedloom.run(out=tmp_path / "run", track=[Failing], observer=Said(), **SMALL)
    assert len(run.rounds) == 2
    assert Failing.rounds == 1
    assert [line for line in Said.lines if "tracker" in line] == [
        "tracker Failing has failed, the run goes on without it: ConnectionError: the server"
    ]


def test_an_interrupt_goes_through():
    class Stopped(Observer):
        def round(self, row: Mapping[str, Any]) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Careful(Stopped(), "s", print).round({})


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_tools_that_are_not_installed(monkeypatch, name):
    monkeypatch.setattr(base, "find_spec", lambda module: None)
    with pytest.raises(BadInput, match=rf"tracker '{name}' needs {name}: pip install 'fedloom\[{name}\]'"):
        TRACKERS.find(name)()


def test_several_with_commas(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preset", "smoke", "--track", "tensorbord,mlflow", "--track", "wandb"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown tracker 'tensorbord'. Did you mean 'tensorboard'?")
