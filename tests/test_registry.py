"""Methods, data sets, metrics and trackers from outside of the package: how they are found, and by which processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom import registry
from fedloom.config import Config, load_config
from fedloom.errors import BadInput
from fedloom.experiment.silo_client import prepare_run
from fedloom.federation.messages import Empty
from fedloom.methods.base import load_method
from fedloom.metrics.base import Evaluation, Metric
from fedloom.progress import Observer
from fedloom.references import load_reference, reference_of
from fedloom.registry import DATASETS, ENGINES, METHODS, METRICS, TRACKERS
from test_engines import assert_same, grid_of
from whole_runs import rows_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = ("settings.steps=2", "rounds=1")
OUTSIDE = """
import fedloom
from fedloom.federation.messages import Empty
from fedloom.methods import alone
from dataclasses import replace

METHOD = replace(alone.STANDALONE, name="mine")
"""


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (*registry.REGISTRIES, TRACKERS):
        monkeypatch.setattr(one, "_registered", {})


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with a METHOD, in the working directory alone: as the command line finds it."""
    name = f"outside_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("given", ["fed-et", "FedET", "FED_ET", "fedet"])
def test_names_of_built_in_items(given):
    assert METHODS.canonical(given) == "fed-et"
    assert Config(method=given).method == "fed-et"
    assert METHODS.find(given) is METHODS.find("fed-et")


@pytest.mark.parametrize("given", ["mine", "mine.py"])
def test_a_file_without_what_stands_in_it(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("METHOD = 1")
    with pytest.raises(
        BadInput, match=rf"^unknown method '{given}': of one that stands in mine\.py, give mine\.py:NAME$"
    ):
        METHODS.find(given)


def test_a_method_whose_client_lacks_a_verb():
    method = replace(load_method("fedavg")[0], verbs=lambda settings: {"dance": (Empty, Empty)})
    with pytest.raises(BadInput, match=r"method fedavg: verb 'dance' needs a method FedAvgClient\.dance\("):
        method.contract(None)


def test_a_metric_that_needs_what_there_is_not():
    with pytest.raises(BadInput, match=r"unknown need of metric 'm' 'generatr'\. Did you mean 'generator'"):
        Metric("m", "M", lambda evaluation: 1.0, needs=frozenset({"generatr"}))


def test_an_unknown_name_is_refused_once_with_the_nearest():
    with pytest.raises(BadInput) as error:
        fedloom.run(method="FedMMKTT")
    assert str(error.value).startswith("unknown method 'FedMMKTT'. Did you mean 'fedmmkt'? Allowed: bias-fl, ")
    assert str(error.value).count("Did you mean") == 1
    with pytest.raises(BadInput, match=r"unknown metric 'acuracy'"):
        load_config(overrides=["evaluation.metrics=[acuracy]"])
    with pytest.raises(BadInput, match=r"unknown tracker 'board'"):
        fedloom.run(method="standalone", track=["board"])


def test_every_kind_has_its_built_in_items():
    assert {"fedmmkt", "fedavg"} <= set(METHODS.names())
    assert {"flora", "coco"} <= set(DATASETS.names())
    assert ENGINES.names() == ["local", "flower"]
    for name in ENGINES.names():
        assert ENGINES.find(name).name == name


# -------------------------------------------------------------------------------------------------------- references


def test_a_module_of_the_working_directory(outside):
    reference = f"{outside}:METHOD"
    assert METHODS.find(reference).name == "mine"
    assert METHODS.canonical(METHODS.find(reference)) == reference
    assert (METHODS.label(reference), METHODS.label("fedmd")) == ("mine", "fedmd")
    assert METHODS.about(reference).modalities == METHODS.about("standalone").modalities


def test_a_file(outside, tmp_path):
    found = METHODS.find(f"{outside}.py:METHOD")
    assert METHODS.canonical(f"{outside}.py:METHOD") == f"{tmp_path}/{outside}.py:METHOD"
    assert METHODS.canonical(found) == f"{tmp_path}/{outside}.py:METHOD"
    assert METHODS.find(f"{tmp_path}/{outside}.py:METHOD") is found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "nowhere:METHOD",
            r"method 'nowhere:METHOD' cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("nowhere.py:METHOD", r"method .*/nowhere.py: there is no such file"),
        ("{}:METHODE", r"method '\w+:METHODE': \w+ has no 'METHODE'. Did you mean 'METHOD'\?"),
        ("{}:fedloom", r"method '\w+:fedloom': is a module, expected a Method"),
        ("broken.py:METHOD", r"method .*/broken.py cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_references_to_nothing(outside, tmp_path, given, said):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(BadInput, match=said):
        fedloom.run(preset="smoke", method=given.format(outside))


def test_what_is_called_as_a_built_in_item(tmp_path):
    own = tmp_path / "own.py"
    scores = "".join(f'M{i} = Metric("{n}", "", min)\n' for i, n in enumerate(("image_accuracy", "Variety-Coverage")))
    own.write_text(OUTSIDE.replace('"mine"', '"Fed_MD"') + f"from fedloom.metrics.base import Metric\n{scores}")
    for one, name, item in (
        (METHODS, "Fed_MD", "METHOD"),
        (METRICS, "image_accuracy", "M0"),
        (METRICS, "Variety-Coverage", "M1"),
    ):
        with pytest.raises(
            BadInput, match=rf"own\.py:{item}': its name '{name}' is one of fedloom's own; give it anoth"
        ):
            one.find(f"{own}:{item}")


def test_built_in_items_by_reference():
    for one in registry.REGISTRIES:
        for name, entry in one.builtin().items():
            reference = entry if isinstance(entry, str) else entry.item
            assert one.find(reference) is one.find(name)


def test_an_object_of_no_file():
    with pytest.raises(BadInput, match="metric 'half' is at the top of no file, so other processes, and a resumed run"):
        fedloom.run(preset="smoke", evaluation={"metrics": [Metric("half", "Half", lambda evaluation: 0.5)]})


def test_a_script_is_loaded_as_far_as_its_first_run(tmp_path):
    """Without a `__main__` guard: what it defines before is there, and nothing is run again."""
    script = tmp_path / "script.py"
    script.write_text("import fedloom\nBEFORE = 1\nfedloom.run(method='nothing')\nAFTER = 2\n")
    assert load_reference(f"{script}:BEFORE", "number") == 1
    with pytest.raises(BadInput, match="has no 'AFTER'"):
        load_reference(f"{script}:AFTER", "number")


def test_a_class_is_found_where_it_is_defined():
    assert reference_of(Metric, "class") == "fedloom.metrics.base:Metric"
    assert reference_of(Observer, "class") == "fedloom.progress:Observer"


# ------------------------------------------------------------------------------------------- registered and installed


def test_registered_in_this_process(outside):
    found = METHODS.find(f"{outside}:METHOD")
    assert fedloom.register_method(found) is found
    assert fedloom.register_method(found) is found  # a module that is imported again
    assert METHODS.names()[-1] == "mine"
    assert METHODS.find("Mine") is found
    assert Config(method="mine").method == f"{outside}:METHOD"  # what another process finds it by
    with pytest.raises(BadInput, match="method 'fedmd': there is one of that name already"):
        METHODS.register(found, "FedMD")
    with pytest.raises(BadInput, match="method 3: is a int, expected a Method"):
        fedloom.register_method(3)


def test_installed_as_an_entry_point(outside, tmp_path, monkeypatch):
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[fedloom.methods]\nmine = {outside}:METHOD\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._installed.cache_clear()
    try:
        assert metadata.version("mine") == "1"
        assert METHODS.find("mine").name == "mine"
        assert Config(method="Mine").method == "mine"  # other processes of this installation have it too
        assert METHODS.check_installed("mine") == "mine"
    finally:
        monkeypatch.undo()
        registry._installed.cache_clear()


# -------------------------------------------------------------------------------------------------------------- silos


def test_a_silo_takes_installed_methods_only(outside, tmp_path):
    """Whatever a server asks for, and whatever is registered: nothing is imported."""
    fedloom.register_method(METHODS.find("standalone"), "registered")
    offer = {"version": fedloom.__version__, "method": f"{outside}:METHOD"}
    for method in (f"{outside}:METHOD", f"{tmp_path}/{outside}.py:METHOD", "registered"):
        with pytest.raises(BadInput, match=rf"offer.method = '.*{method[-12:]}': a silo takes no method but those"):
            prepare_run({**offer, "method": method}, {}, tmp_path)
    assert outside not in sys.modules
    with pytest.raises(BadInput, match=r"method = 'outside_\w+:METHOD': a silo takes no method but those"):
        load_config(values={"method": f"{outside}:METHOD", "engine": {"name": "flower", "mode": "deployment"}})


# ------------------------------------------------------------------------------------------------------------- runs


class Recorder(Observer):
    """A tracker."""

    seen: list[str]

    def __init__(self) -> None:
        Recorder.seen = []

    def begin(self, facts: Any) -> None:
        self.seen.append(f"begin {facts['method']} on {facts['data']}")

    def round(self, row: Any) -> None:
        self.seen.append(f"round {row['round']}: {row['metrics']['worst_client']}")

    def end(self, summary: Any) -> None:
        self.seen.append("end")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of a method, outside of the repository."""
    return Path(shutil.copy(EXAMPLES / "write_a_method.py", tmp_path_factory.mktemp("outside")))


@pytest.fixture(scope="module")
def local(example: Path) -> Any:
    metric = {"metrics": [f"{EXAMPLES}/add_a_metric.py:WORST_CLIENT"]}
    given = {"preset": "smoke", "overrides": SMALL, "evaluation": metric}
    return fedloom.run(method=f"{example}:METHOD", out=example.parent / "run", track=[Recorder], **given)


def test_a_run(example, local):
    assert local.config["method"] == f"{example}:METHOD"
    assert (local.summary["method"], local.summary["data"]) == ("prototypes", "flora")
    worst = [row["metrics"]["worst_client"] for row in local.rounds]
    assert worst == [min(row["per_client"].values()) for row in local.rounds]
    found = local.summary["metrics"]["worst_client"]
    assert (found["before"], found["after"], found["title"], found["unit"]) == (*worst, "Worst client", "%")
    assert Recorder.seen == ["begin prototypes on flora", *(f"round {t}: {v}" for t, v in enumerate(worst)), "end"]
    assert "Worst client" in str(local)
    page = local.report().read_text() if hasattr(local, "report") else ""
    assert "Worst client" in page
    assert {row["verb"] for row in local.ledger if row["counted"]} == {"prototypes", "fit"}


def test_it_is_resumed_by_what_its_folder_says(local, tmp_path):
    """In a process that has been told nothing; from a checkpoint, as after a crash."""
    folder = Path(shutil.copytree(local.path, tmp_path / "run"))
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "round_0001")
    code = f"import fedloom; fedloom.resume({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert rows_of(fedloom.load_run(folder)) == rows_of(local)


def test_silos_begun_by_this_process(local, tmp_path):
    """Flower's Grid and resident silos, which rebuild their clients from what they were sent."""
    config = {k: v for k, v in local.config.items() if k not in ("engine", "checkpoints")}
    engine = {"name": "flower", "silos": 2}
    assert_same(fedloom.run(config, engine=engine, out=tmp_path / "run", grid=grid_of(tmp_path / "silos", 2)), local)


SCRIPT = """
import fedloom
from dataclasses import replace
from fedloom.methods import alone
from fedloom.metrics.base import Metric

METHOD = replace(alone.STANDALONE, name="of-a-script")
WORST = fedloom.register_metric(Metric("worst", "Worst", lambda evaluation: min(evaluation.per_client.values())))
given = {"preset": "smoke", "rounds": 1, "evaluation": {"metrics": ["worst"]}, "settings": {"private_steps": 2}}
run = fedloom.run(method=METHOD, engine={"name": "local", "workers": 1}, out="run", **given)
print(run.summary["method"], run.config["method"], run.summary["metrics"]["worst"]["after"] is not None)
"""


def test_a_script_without_a_guard_has_a_worker_process(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"of-a-script {tmp_path}/script.py:METHOD True\n"


@pytest.mark.conformance  # Ray alone takes a minute of two processors to come up
@pytest.mark.parametrize("mode", ["simulation", "loopback"])
def test_flower_processes(local, tmp_path, mode):
    tree = {k: v for k, v in local.config.items() if k not in ("engine", "checkpoints")}
    tree["engine"] = {"name": "flower", "mode": mode, "silos": 2, "cpus": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(tree))
    code = "import fedloom, json; fedloom.run(json.load(open('config.json')), out='run')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(fedloom.load_run(tmp_path / "run"), local)


def test_a_metric_that_fails_names_itself_and_the_round():
    with pytest.raises(BadInput, match="unknown metric"):
        METRICS.find("worst")
    value = Metric("m", "M", lambda evaluation: 1, needs=frozenset({"generator"})).value
    assert value(Evaluation(0, {"image-0": 0.5})) is None


def test_an_entry_point_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from fedloom import registry

    broken = EntryPoint("theirs", "no_such_package:METHOD", "fedloom.methods")
    monkeypatch.setattr(registry, "_installed", lambda group: {"theirs": broken})
    with pytest.raises(
        BadInput, match=r"^method 'theirs': its entry point 'no_such_package:METHOD' cannot be loaded: Module"
    ):
        registry.METHODS.find("theirs")
