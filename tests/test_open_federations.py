"""Runs whose clients come and go: resumed, in other processes, and told in the report."""

from __future__ import annotations

import json
from typing import Any

import pytest

import fedloom
from fedloom.cli.main import main
from fedloom.results import Run
from fedloom.runs.load import read_run
from whole_runs import assert_equal, rows_of

pytestmark = pytest.mark.drawn

GOING = {
    "away": 0.4,
    "late": 0.2,
    "join": {"text-1": 3},
    "leave": {"image-1": 3},
    "trace": [["image-0", 1, "present"], ["text-0", 2, "away"], ["image-0", 2, "late"]],
}


def run(folder: Any, smoke: tuple[str, ...], *more: str, **participation: Any) -> Run:
    tree = [f"participation.{key}={json.dumps(value)}" for key, value in participation.items()]
    made: Run = fedloom.run(preset="smoke", overrides=(*smoke, "rounds=3", *tree, *more), out=folder)
    return made


@pytest.fixture(scope="module")
def going(fedloom_cache: Any, smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("going") / "run", smoke_overrides, **GOING)


def test_rows_say_who_was_there_and_scores_are_of_the_members(going: Run) -> None:
    rows = rows_of(going)
    assert "participants" not in rows[0]
    told = [row["participants"] for row in rows[1:]]
    assert "image-0" in told[0]["present"]
    assert "text-0" in told[1]["away"]
    assert "image-0" in told[1]["late"]
    assert [each["awaited"] for each in told] == [["text-1"], ["text-1"], []]
    assert [each["gone"] for each in told] == [[], [], ["image-1"]]
    members = [set(row["per_client"]) for row in rows]
    assert ["text-1" in m for m in members] == [False, False, False, True]
    assert ["image-1" in m for m in members] == [True, True, True, False]
    for row in rows[1:]:
        sent = {r["client"] for r in going.ledger if r["round"] == row["round"] and r["verb"] != "evaluate"}
        assert sent == {*row["participants"]["present"], *row["participants"]["late"]}
        assert row["missing"] == []


def test_who_is_gone_is_exported_as_it_was(going: Run) -> None:
    assert (going.path / "export" / "image-1").is_dir()


def test_the_report_and_inspect_show_a_timeline(going: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(going.path)]) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if text.strip().startswith("image-1"))
    assert "×" in line
    assert main(["report", str(going.path)]) == 0
    assert "Who took part" in (going.path / "report.html").read_text(encoding="utf-8")


def test_worker_processes_give_the_same(going: Run, smoke_overrides: tuple[str, ...], tmp_path: Any) -> None:
    assert_equal(run(tmp_path / "run", smoke_overrides, "engine.workers=2", **GOING), going)


def test_silos_that_know_only_what_is_on_their_disks_give_the_same(
    going: Run, smoke_overrides: tuple[str, ...], tmp_path: Any
) -> None:
    from test_engines import assert_same, grid_of

    overrides = [f"participation.{key}={json.dumps(value)}" for key, value in GOING.items()]
    given = (*smoke_overrides, "rounds=3", *overrides, "engine.name=flower", "engine.silos=1")
    grid = grid_of(tmp_path / "silos", 1, forgetful=True)
    assert_same(fedloom.run(preset="smoke", overrides=given, out=tmp_path / "run", grid=grid), going)


def test_a_stopped_run_goes_on_to_the_same(going: Run, smoke_overrides: tuple[str, ...], tmp_path: Any) -> None:
    from fedloom.methods.fedmmkt import FedMMKTServer

    plain = FedMMKTServer.round

    def stopping(self: Any, federation: Any) -> Any:
        if federation.round == 3:
            raise KeyboardInterrupt
        return plain(self, federation)

    FedMMKTServer.round = stopping  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", smoke_overrides, **GOING)
    finally:
        FedMMKTServer.round = plain  # type: ignore[method-assign]
    assert len(read_run(tmp_path / "run").rounds) == 3
    assert_equal(fedloom.resume(tmp_path / "run"), going)


def test_a_round_without_anybody_is_empty(smoke_overrides: tuple[str, ...], tmp_path: Any) -> None:
    nobody = [[name, 2, "away"] for name in ("image-0", "image-1", "text-0", "text-1")]
    done = run(tmp_path / "run", smoke_overrides, trace=nobody)
    one, two = rows_of(done)[1:3]
    assert two["participants"]["present"] == []
    assert two["bytes_up"] == two["bytes_down"] == 0
    assert two["t2i_accuracy"] == one["t2i_accuracy"]
    assert two["per_client"] == one["per_client"]
    assert "round 2: nobody was there" in (done.path / "log.txt").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------- classes that appear

NEW = "daisy"


@pytest.fixture(scope="module")
def growing(fedloom_cache: Any, smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("growing") / "run", smoke_overrides, classes={NEW: 2})


def test_a_class_is_drawn_from_its_round_on(growing: Run) -> None:
    names = growing.summary["class_names"]
    c = names.index(NEW)
    drawn = [row["labels"]["drawn_classes"] for row in growing.rounds[1:]]
    assert [bool(each[c]) for each in drawn] == [False, True, True]
    assert all(sum(each) == 20 for each in drawn)
    for row in growing.rounds:
        assert set(row["by_group"]) == {"image", "text", "generator"}
        assert all(set(each) == {"from the start", NEW} for each in row["by_group"].values())
    assert set(growing.summary["by_group"]["image"]) == {"from the start", NEW}


def test_clients_have_samples_of_it_from_then_on(growing: Run, smoke_overrides: tuple[str, ...]) -> None:
    from fedloom.config import Config
    from fedloom.config.trees import validate
    from fedloom.experiment.arrivals import coming, new_classes
    from fedloom.experiment.clients import private_samples
    from fedloom.experiment.datasets import cached_dataset

    config: Config = validate(Config, growing.config)
    scene = cached_dataset(config.data)
    held = private_samples(config, scene, scene_task := next(iter(scene.train)), 0)
    new, later = new_classes(config, scene.names_of(scene_task)), coming(config, "image-0", scene.names_of(scene_task))
    assert len(later.present(held, 1)) == int((held.labels != next(iter(new))).sum())
    assert len(later.present(held, 2)) == len(held)


def test_growing_runs_are_the_same_in_worker_processes(
    growing: Run, smoke_overrides: tuple[str, ...], tmp_path: Any
) -> None:
    assert_equal(run(tmp_path / "run", smoke_overrides, "engine.workers=2", classes={NEW: 2}), growing)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"classes": {"dasy": 2}}, "participation.classes: unknown class 'dasy'. Did you mean 'daisy'?"),
    ],
)
def test_what_cannot_appear_is_one_line(
    settings: dict[str, Any], said: str, smoke_overrides: tuple[str, ...], tmp_path: Any
) -> None:
    from fedloom.errors import BadInput

    with pytest.raises(BadInput, match="participation") as found:
        run(tmp_path / "run", smoke_overrides, **settings)
    assert said in str(found.value)
