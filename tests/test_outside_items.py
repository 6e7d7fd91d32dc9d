"""Runs whose method, data set, client model, metric and engine all come from outside of the package, on every engine.

How such items are found is in `test_registry`.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom import registry
from fedloom.config import load_config
from fedloom.deployment.server_app import with_roster
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.silo_client import prepare_run
from fedloom.experiment.silo_offer import make_offer
from fedloom.registry import CLIENT_MODELS, DATASETS, ENGINES
from fedloom.results import Run
from test_engines import assert_same, grid_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = ("write_a_method", "add_a_data_set", "bring_a_model", "add_a_metric")
MODULES = tuple(f"outside_{name}" for name in FILES)  # the same files, by names that nothing else has


def tree(folder: str = "", extension: str = ".py", names: tuple[str, ...] = FILES) -> dict[str, Any]:
    """The configuration of a small run whose items are FOLDER + NAME + EXTENSION:ITEM."""
    method, data, model, metric = (f"{folder}{name}{extension}" for name in names)
    cnn = {"arch": f"{model}:SMALL_CNN", "count": 2, "hidden": 8, "width": 16}
    return {
        "preset": "smoke",
        "method": f"{method}:METHOD",
        "data": {"name": f"{data}:STRIPES", "options": {"each": 16, "noise": 40}, "minimum": 1},
        "clients": {"image": [cnn], "text": [], "public_steps": 0, "warm_steps": 2},
        "evaluation": {"metrics": [f"{metric}:WORST_CLIENT"]},
        "settings": {"steps": 2},
        "rounds": 1,
    }


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in registry.REGISTRIES:
        monkeypatch.setattr(one, "_registered", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the repository with the examples, by their own names and by those of MODULES."""
    made = tmp_path_factory.mktemp("outside")
    for file, module in zip(FILES, MODULES):
        shutil.copy(EXAMPLES / f"{file}.py", made)
        shutil.copy(EXAMPLES / f"{file}.py", made / f"{module}.py")
    return made


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """MODULES, which this process and those that it starts can import."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    yield MODULES
    for module in MODULES:
        sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def local(folder: Path) -> Run:
    """In this process, all items by their files."""
    return fedloom.run(**tree(f"{folder}/"), out=folder / "run")


def test_in_this_process(local: Run, folder: Path) -> None:
    assert (local.summary["method"], local.summary["data"]) == ("prototypes", "stripes")
    assert local.config["data"]["name"] == f"{folder}/add_a_data_set.py:STRIPES"
    assert local.config["clients"]["image"][0]["arch"] == f"{folder}/bring_a_model.py:SMALL_CNN"
    assert local.summary["metrics"]["worst_client"]["after"] == min(local.rounds[-1]["per_client"].values())


def test_by_modules(local: Run, importable: tuple[str, ...], tmp_path: Path) -> None:
    run = fedloom.run(**tree("", "", importable), out=tmp_path / "run")
    assert run.config["data"]["name"] == "outside_add_a_data_set:STRIPES"
    assert_same(run, local)


def test_a_worker_process(local: Run, importable: tuple[str, ...], tmp_path: Path) -> None:
    """One, which has been told nothing; two give the same: `test_experiment`."""
    engine = {"name": "local", "workers": 1}
    assert_same(fedloom.run(**tree("", "", importable), engine=engine, out=tmp_path / "run"), local)


def test_a_silo_in_memory_alone(local: Run, folder: Path, tmp_path: Path) -> None:
    """Flower's Grid; the silo is begun anew for every message, and rebuilds its clients from what it was sent."""
    given = {**tree(f"{folder}/"), "engine": {"name": "flower", "silos": 1}}
    grid = grid_of(tmp_path / "silos", 1, forgetful=True)
    assert_same(fedloom.run(**given, out=tmp_path / "run", grid=grid), local)


@pytest.mark.conformance  # Ray, and a federation of processes, take a minute to come up
@pytest.mark.parametrize("mode", ["simulation", "loopback"])
@pytest.mark.parametrize("form", ["files", "modules"])
def test_flower_processes(local: Run, folder: Path, importable: tuple[str, ...], tmp_path: Path, mode: str, form: str):
    given = tree(f"{folder}/") if form == "files" else tree("", "", importable)
    given["engine"] = {"name": "flower", "mode": mode, "silos": 2, "cpus": 0.5}
    (tmp_path / "given.json").write_text(json.dumps(given))
    code = "import fedloom, json; fedloom.run(**json.load(open('given.json')), out='run')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(fedloom.load_run(tmp_path / "run"), local)


# ------------------------------------------------------------------------------------------------------------ engines

ENGINE = """
from fedloom.federation.engines.base import Engine
from fedloom.federation.engines.local import LocalFederation

built = []

def build(specs, contract, ledger, context):
    built.append([spec.name for spec in specs])
    return LocalFederation(specs, contract, ledger)

PLAIN = Engine("plain", build, summary="every client in this process")
"""


@pytest.mark.parametrize("form", ["file", "module", "registered"])
def test_an_engine(local: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    (tmp_path / f"engine_{form}.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    reference = f"{tmp_path}/engine_{form}.py:PLAIN" if form == "file" else f"engine_{form}:PLAIN"
    found = ENGINES.find(reference)
    if form == "registered":
        fedloom.register_engine(found)
    name = "plain" if form == "registered" else reference
    run = fedloom.run(**tree(f"{folder}/"), engine={"name": name}, out=tmp_path / "run")
    assert run.config["engine"]["name"] == reference
    assert sys.modules[found.build.__module__].built == [["image-0", "image-1"]]
    assert_same(run, local)


# -------------------------------------------------------------------------------------------------------- entry points


def test_installed_data_sets_and_client_models(
    importable: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, local: Run
) -> None:
    _, data, model, _ = importable
    points = {
        "fedloom.datasets": {"stripes": EntryPoint("stripes", f"{data}:STRIPES", "fedloom.datasets")},
        "fedloom.client_models": {"small-cnn": EntryPoint("small-cnn", f"{model}:SMALL_CNN", "fedloom.client_models")},
    }
    monkeypatch.setattr(registry, "_installed", lambda group: points.get(group, {}))
    assert DATASETS.names()[-1] == "stripes"
    assert CLIENT_MODELS.check_installed("small-cnn") == "small-cnn"  # a silo takes it, too
    given = tree("", "", importable)
    given["data"]["name"], given["clients"]["image"][0]["arch"] = "Stripes", "small_cnn"
    run = fedloom.run(**given, out=tmp_path / "run")
    assert run.config["data"]["name"] == "stripes"
    assert run.config["clients"]["image"][0]["arch"] == "small-cnn"
    assert_same(run, local)


# -------------------------------------------------------------------------------------------------------------- silos


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A reference to a client model, in a module that could be imported, and must not be."""
    (tmp_path / "a_strangers_model.py").write_text((EXAMPLES / "bring_a_model.py").read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "a_strangers_model:SMALL_CNN"
    assert "a_strangers_model" not in sys.modules


REFUSED = "a silo takes no client model but those that are built in, or installed there as entry points"


@pytest.mark.parametrize("modality", ["image", "pair"])
def test_a_server_imports_no_model_that_a_silo_names(
    stranger: str, modality: str, caplog: pytest.LogCaptureFixture
) -> None:
    arch = stranger if modality == "image" else f"{stranger}+bert"
    sizes = {"hidden": 16, "width": 16}
    known = {"name": "known", "modality": "image", "model": {"arch": "resnet", **sizes}}
    odd = {"name": "odd", "modality": modality, "model": {"arch": arch, **sizes}}
    said = [{"silo": about["name"], "about": about} for about in (known, odd)]
    engine = {"name": "flower", "mode": "deployment", "silos": 1}
    config = load_config(preset="smoke", values={"method": "standalone", "engine": engine})
    caplog.set_level(logging.WARNING)
    assert with_roster(config, said).clients.names("image") == ["known"]
    assert len(caplog.messages) == 1
    assert f"model.arch = {arch}: {REFUSED}" in caplog.messages[0]
    with pytest.raises(FedloomError) as error:
        with_roster(config.model_copy(update={"engine": config.engine.model_copy(update={"silos": 2})}), said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["server", "joint"])
def test_a_silo_imports_no_model_that_a_server_names(stranger: str, part: str, tmp_path: Path) -> None:
    config = load_config(preset="smoke", values={"method": "standalone"})
    offer = json.loads(json.dumps(make_offer(config, ("a", "b"), 12)))
    sizes = {"hidden": 16, "width": 16}
    named = {
        "server": {"image": {"arch": stranger, **sizes}},
        "joint": {"model": {"arch": f"audio-resnet+{stranger}", **sizes}, "streams": ["audio", "image"]},
    }
    with pytest.raises(BadInput) as error:
        prepare_run({**offer, part: named[part]}, {}, tmp_path)
    assert f"offer.{part}" in str(error.value)
    assert REFUSED in str(error.value)
    assert "\n" not in str(error.value)
