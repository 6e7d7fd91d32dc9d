"""Whole runs without one server: in other processes, resumed, and what is refused before they begin."""

from __future__ import annotations

from typing import Any

import pytest

import fedloom
from fedloom.config import load_config
from fedloom.errors import BadInput
from fedloom.experiment.resolve import completed
from fedloom.results import Run
from whole_runs import assert_equal, rows_of

ALIKE = (
    'clients.image=[{"arch":"resnet","hidden":8,"width":16,"count":4}]',
    *("clients.text=[]", "settings.private_steps=2", "settings.extra_steps=1", "evaluation.judge.steps=1"),
)
RING = (*ALIKE, "topology.kind=ring", 'participation.trace=[["image-1",2,"away"],["image-3",2,"late"]]')


def run(folder: Any, method: str, *more: str) -> Run:
    made: Run = fedloom.run(preset="smoke", method=method, overrides=("rounds=3", *more), out=folder)
    return made


@pytest.fixture(scope="module")
def ring(fedloom_cache: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("ring") / "run", "fedavg", *RING)


@pytest.fixture(scope="module")
def moving(fedloom_cache: Any, smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Run:
    given = (*smoke_overrides, "topology.kind=ring", "topology.host=moves")
    return run(tmp_path_factory.mktemp("moving") / "run", "fedmmkt", *given)


def test_rows_tell_of_the_peers(ring: Run) -> None:
    rows = rows_of(ring)
    for row in rows:
        scores = row["per_client"].values()
        assert row["peers"]["image_lowest"] == min(scores)
        assert row["peers"]["image_highest"] == max(scores)
    assert rows[0]["peers"]["consensus_distance"] is None
    assert all(row["peers"]["consensus_distance"] > 0 for row in rows[1:])
    assert all(row["bytes_down"] == 0 for row in rows)
    size = rows[1]["bytes_up"] / 8  # four peers with two neighbours each
    assert rows[2]["bytes_up"] / size == 4  # two edges, both ways: who is late sends too
    assert ring.summary["peers"]["image_lowest"]["after"] == rows[-1]["peers"]["image_lowest"]


def test_a_star_that_is_named_tells_of_its_clients_too(tmp_path: Any) -> None:
    done = run(tmp_path / "run", "fedavg", *ALIKE, "topology.kind=star", "rounds=1")
    assert set(done.rounds[1]["peers"]) == {"image_lowest", "image_highest"}
    assert not any("to" in row for row in done.ledger)


@pytest.mark.conformance
def test_worker_processes_give_the_same(ring: Run, tmp_path: Any) -> None:
    assert_equal(run(tmp_path / "run", "fedavg", *RING, "engine.workers=2"), ring)


def test_silos_that_know_only_what_is_on_their_disks_give_the_same(ring: Run, tmp_path: Any) -> None:
    from test_engines import assert_same, grid_of

    given = ("rounds=3", *RING, "engine.name=flower", "engine.mode=simulation", "engine.silos=1")
    grid = grid_of(tmp_path / "silos", 1, forgetful=True)
    assert_same(fedloom.run(preset="smoke", method="fedavg", overrides=given, out=tmp_path / "run", grid=grid), ring)


@pytest.mark.parametrize("kind", ["ring", "moving"])
def test_a_killed_run_goes_on_to_the_same(
    kind: str, smoke_overrides: tuple[str, ...], tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    from fedloom.federation.base import Federation

    whole, plain = request.getfixturevalue(kind), Federation.held

    def ending(self: Any) -> Any:
        if self.round == 3:
            raise KeyboardInterrupt
        return plain(self)

    more = RING if kind == "ring" else (*smoke_overrides, "topology.kind=ring", "topology.host=moves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Federation, "held", ending)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", whole.config["method"], *more)
    assert_equal(fedloom.resume(tmp_path / "run"), whole)


def test_a_moving_half_is_told_of(moving: Run) -> None:
    assert [row["peers"]["host"] for row in moving.rounds] == [None, "image-0", "image-1", "text-0"]
    handed = [row for row in moving.ledger if row["verb"] == "hand over"]
    assert [(row["client"], row["to"]) for row in handed] == [("image-0", "image-1"), ("image-1", "text-0")]
    assert all(row["counted"] for row in handed)
    assert "host" not in moving.summary["peers"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("topology.kind=regular",), "degree = None with kind = regular: allowed: 2 or more"),
        (("topology.kind=ring", "topology.degree=3"), "degree = 3 with kind = ring: allowed: null"),
        (("topology.host=moves",), "host = moves with kind = star: a star has its server"),
        (("topology.kind=regular", "topology.degree=4"), "topology.degree = 4: in a graph of 4 clients allowed: 2, 3"),
        (("topology.kind=regular", "topology.degree=3", "3"), "degree = 3: in a graph of 3 clients allowed: 2"),
        (("topology.kind=ring", "1"), "topology.kind = ring: there is 1 client, allowed: 2 or more"),
        (("topology.kind=ring", "settings.share=0.5"), "settings.share = 0.5: a server draws who takes part"),
        (
            ("topology.kind=ring", "settings.secure=true"),
            "settings.secure = true: secure sums are unmasked by a server",
        ),
        (("topology.kind=ring", "settings.leave_out_after=2"), "a server compares all clients; allowed: null"),
        (("topology.kind=ring", "topology.host=moves"), "fedavg has no server half that could move; allowed: null"),
        (("topology.kind=ring", "engine.keep_messages=true"), "engine.keep_messages = true with topology.kind = ring"),
        (("topology.kind=ring", "method=fedgems"), "fedgems needs a server, its server trains classifiers of its own"),
        (("topology.kind=ring", "method=fedmmkt"), "fedmmkt needs a server half, which holds its generator"),
        (
            ("topology.kind=ring", "method=fedmd"),
            "settings.shared = synthetic: one draws them for all; allowed: public",
        ),
        (("topology.kind=mesh",), "topology.kind = 'mesh'"),
    ],
)
def test_what_cannot_be_is_one_line(given: tuple[str, ...], said: str) -> None:
    count = next((g for g in given if g.isdigit()), "4")
    clients = (f'clients.image=[{{"arch":"resnet","hidden":8,"width":16,"count":{count}}}]', "clients.text=[]")
    method = next((g.removeprefix("method=") for g in given if g.startswith("method=")), "fedavg")
    overrides = [g for g in given if "=" in g and not g.startswith("method=")]
    with pytest.raises(BadInput) as found:
        completed(load_config(preset="smoke", overrides=(*clients, *overrides), values={"method": method}))
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_silos_of_a_deployment_have_a_server() -> None:
    given = ("topology.kind=ring", "engine.name=flower", "engine.mode=deployment")
    with pytest.raises(BadInput, match="silos of a deployment reach their server alone; allowed: star"):
        completed(load_config(preset="smoke", overrides=given, values={"method": "fedavg"}))


def test_no_configuration_changes_without_one() -> None:
    assert "topology" not in load_config(preset="smoke").model_dump(mode="json")
