"""One conformance suite: every method gives the same numbers whatever carries its messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedloom
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.silo.host import SiloHost
from fedloom.federation.engines.silo.store import SiloStore
from fedloom.methods.catalogue import CATALOGUE
from fedloom.results import Run
from in_process_grid import InProcessGrid
from whole_runs import last, rows_of, weights_of

ONE_MODALITY = {"u-fedmmkt": ("clients.text=[]",)}
OVERRIDES = (
    *("settings.samples=20", "settings.retrain_steps=2", "settings.private_steps=2"),
    *("settings.tune_steps=2", "settings.tune_batch=8", "settings.gamma=0.2"),
    *("settings.shared_steps=2", "settings.distill_steps=2", "settings.extra_steps=1"),
)
# Without blanks: they become words of a command line.
JOINT = (
    *("data.name=duet", "data.options=null", "data.multi_ratio=0.5", "data.minimum=1"),
    'data.options={"classes":4,"per_class":16,"test_per_class":5}',
    *("clients.image=[]", "clients.text=[]", "clients.public_steps=0", "clients.warm_steps=0"),
    'clients.joint=[{"arch":"audio-resnet+resnet","hidden":8,"width":8,"count":4}]',
)


def overrides(method: str) -> tuple[str, ...]:
    from fedloom.methods.base import load_method

    kind, fixed = load_method(method)
    known = kind.settings.model_fields
    fits = [o for o in OVERRIDES if (key := o.split("=")[0].split(".")[1]) in known and key not in fixed]
    sgd = () if "adamw" in kind.optimizers else ("clients.optimizer=sgd",)
    return (*fits, *sgd, *(JOINT if kind.tasks == {"joint"} else ()), *ONE_MODALITY.get(method, ()))


def grid_of(folder: Path, silos: int, *, forgetful: bool = False) -> InProcessGrid:
    """Silos in this process; forgetful ones are begun anew for every message and know only what is on disk."""

    def app(name: str) -> Any:
        def host() -> SiloHost:
            return SiloHost(SiloStore(folder / name), name)

        one = host()
        return make_client_app(lambda letter, node: (host() if forgetful else one).answer(letter))

    return InProcessGrid({7 + i: (app(f"silo-{i}"), {}) for i in range(silos)})


def server_of(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    newest = sorted((run.path / "checkpoints").iterdir())[-1]
    return load_file(newest / "server.safetensors")


def counted(run: Run) -> list[dict[str, Any]]:
    """The ledger's rows of the method's own messages, client by client, without the seconds that they took."""
    lines = (run.path / "ledger.jsonl").read_text().splitlines() if (run.path / "ledger.jsonl").exists() else []
    rows = [json.loads(line) for line in lines]
    rows = [{k: v for k, v in row.items() if k not in ("counted", "seconds")} for row in rows if row["verb"] != "join"]
    return sorted(rows, key=lambda r: (r["round"], r["verb"], r["direction"], r["client"]))


def assert_same(run: Run, local: Run) -> None:
    assert rows_of(run) == rows_of(local)
    ours, theirs = server_of(run), server_of(local)
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if not np.array_equal(ours[k], theirs[k])] == []
    assert counted(run) == counted(local)


# Ordinary tests take two methods by the hardest way, silos that are begun anew for every message, and one by three
# silos; two workers are those of test_experiment. All methods by all ways: `make conformance`.
FEW = ("fedmmkt",)
KINDS = (*FEW, "fedcmi")


def tried(ordinary: Sequence[str]) -> list[Any]:
    return [pytest.param(m, marks=() if m in ordinary else pytest.mark.conformance) for m in CATALOGUE]


@pytest.fixture(scope="module")
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    method = request.param
    out = tmp_path_factory.mktemp("local") / "run"
    return fedloom.run(preset="smoke", method=method, overrides=overrides(method), out=out)


def over_grid(local: Run, folder: Path, silos: int, *, forgetful: bool) -> Run:
    method = local.config["method"]
    given = (*overrides(method), "engine.name=flower", f"engine.silos={silos}")
    grid = grid_of(folder / "silos", silos, forgetful=forgetful)
    return fedloom.run(preset="smoke", method=method, overrides=given, out=folder / "run", grid=grid)


@pytest.mark.parametrize("local", tried(KINDS), indirect=True, scope="module")
def test_flower_grid_with_a_silo_that_knows_only_what_is_on_its_disk(local: Run, tmp_path: Path) -> None:
    assert_same(over_grid(local, tmp_path, 1, forgetful=True), local)


@pytest.mark.parametrize("local", tried(FEW), indirect=True, scope="module")
def test_flower_grid_with_three_silos(local: Run, tmp_path: Path) -> None:
    assert_same(over_grid(local, tmp_path, 3, forgetful=False), local)


@pytest.mark.parametrize("local", tried(()), indirect=True, scope="module")
def test_two_workers(local: Run, tmp_path: Path) -> None:
    method = local.config["method"]
    given = (*overrides(method), "engine.workers=2")
    assert_same(fedloom.run(preset="smoke", method=method, overrides=given, out=tmp_path / "run"), local)


WAITING = ("fedmmkt", "fedavg", "fedproto", "fedmd", "fedloom")


@pytest.mark.parametrize("local", tried(WAITING), indirect=True, scope="module")
def test_clients_that_wait_on_disk(local: Run, tmp_path: Path) -> None:
    """One is in memory at a time, so each is parked between any two requests, also in mid-round."""
    method = local.config["method"]
    given = (*overrides(method), "engine.resident=1")
    run = fedloom.run(preset="smoke", method=method, overrides=given, out=tmp_path / "run")
    assert_same(run, local)
    ours, theirs = (weights_of(r, last(r), "export") for r in (run, local))
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if ours[k].tobytes() != theirs[k].tobytes()] == []
    assert not (run.path / "parked").exists()
