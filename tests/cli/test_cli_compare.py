"""`fedloom compare`: one whole comparison of real runs, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import fedloom
from fedloom.config import load_config


@pytest.fixture(scope="module")
def smoke(fedloom_cache, tmp_path_factory):
    """The comparison `smoke`, as `fedloom compare --preset smoke` does it. Read only."""
    return fedloom.compare(preset="smoke", out=tmp_path_factory.mktemp("smoke") / "out", jobs=1)


def test_a_cell_is_an_ordinary_run(smoke, tmp_path):
    """The same numbers as `fedloom run` gives, in a process where another run came before."""
    cell = smoke.cells[-1]
    assert (cell["row"], cell["state"]) == ("FedMD", "done")
    folder = smoke.path / cell["folder"]
    alone = fedloom.run(load_config(file=folder / "config.yaml"), out=tmp_path / "alone")
    for key in ("image_accuracy", "text_accuracy", "bytes_up", "bytes_down"):
        assert fedloom.load_run(folder).summary[key] == alone.summary[key]
    assert not (folder / "checkpoints").exists()
    assert not list((folder / "export").iterdir())
    assert list((alone.path / "checkpoints").iterdir())


def test_done_already(cli, smoke, tmp_path):
    """A comparison that is done is only written again; `--json` is alone on stdout."""
    shutil.copytree(smoke.path, tmp_path / "out")
    command = ("compare", "--preset", "smoke", "--out", "out")
    shown = cli(*command)
    assert shown.code == 0, shown.err
    assert "Smoke: 2 runs, 2 done already" in shown.err
    assert "Standalone" in shown.out
    assert "report out/report.html" in shown.out
    assert "too-few-steps: all 2 runs: " in shown.out
    assert "one-seed: " in shown.out
    assert {"too-few-steps", "few-test-samples", "one-seed"} <= {w["name"] for w in smoke.warnings}
    told = cli(*command, "--json", "--quiet")
    assert told.err == ""
    assert told.json == json.loads(Path("out/comparison.json").read_text())
    assert [c["scores"] for c in told.json["cells"]] == [c["scores"] for c in smoke.cells]
    assert cli("compare", "--resume", "out", "--json", "--quiet").json["table"] == told.json["table"]


def test_a_failure_ends_with_one(cli, smoke, tmp_path):
    """The table is there, and the line says which cell failed and why."""
    shutil.copytree(smoke.path, tmp_path / "out")
    folder = Path("out") / smoke.cells[-1]["folder"]
    (folder / "summary.json").unlink()
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace("batch: 8", "batch: 9"))
    shown = cli("compare", "--resume", "out", "--jobs", 1)
    assert shown.code == 1
    assert "Standalone" in shown.out
    assert "[2/2] FedMD, seed 0: failed, " in shown.err
    assert "error: 1 of 2 cells failed: FedMD, seed 0: " in shown.err
    assert "is a run of another configuration" in shown.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], ["nothing to compare"]),
        (["--methods", "fedmt,standalone"], ["'fedmt'", "Allowed:", "standalone"]),
        (["--methods", "fedmd", "--seeds", "0,x"], ["--seeds", "'x'"]),
        (["--methods", "fedmd", "--seeds", "1,1"], ["seed 1 is given twice"]),
        (["--methods", "fedmd", "--seeds", "4-2"], ["'4-2' ends before it begins"]),
        (["--methods", "fedmd", "--seeds", "0-999999999999"], ["too many seeds", "at most 1,000"]),
        (["--methods", "fedmd", "--scores", "image"], ["score 'image'", "image_accuracy"]),
        (["--methods", "fedmd", "--reference", "standalone"], ["row 'standalone'", "fedmd"]),
        (["--methods", "fedmd", "--set", "clients.bach=1"], ["'clients.bach'", "'clients.batch'"]),
        (["--methods", "fedmd", "--data", "flra"], ["'flra'", "Did you mean 'flora'?"]),
        (["--preset", "smok"], ["'smok'", "Did you mean 'smoke'?"]),
        (["--preset", "smoke", "--methods", "fedavg"], ["row 'fedavg'", "FedMD", "`base: {preset: smoke}`"]),
        (["--preset", "flora-102"], ["'flora-102' is no comparison but a preset of `fedloom run`", "--methods"]),
        (["--plan", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--config", "nowhere.yaml", "--preset", "smoke"], ["give a preset or a plan, not both"]),
        (["--resume", "nowhere"], ["nowhere is no folder of a comparison"]),
    ],
)
def test_refused(cli, args, told):
    shown = cli("compare", *args)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.count("\n") == 1
    for text in told:
        assert text in shown.err
    assert not Path("runs").exists()


def test_seeds_as_a_range():
    from fedloom.cli.compare import seed_list

    assert seed_list("0-2, 7") == [0, 1, 2, 7]


def test_what_is_said_of_a_cell_of_joint_clients():
    from types import SimpleNamespace

    from fedloom.cli.compare_live import said

    keys = ("joint_accuracy", "server_accuracy", "audio_own", "text_own", "audio_probe")
    scores = {key: {"before": None, "after": 0.5} for key in keys} | {"image_accuracy": {"after": None}}
    line = said(SimpleNamespace(label="FedCMI, seed 0"), {"scores": scores, "seconds": 31.4})
    assert line == "FedCMI, seed 0: joint 0.50, shared 0.50, sound alone 0.50, text alone 0.50 in 31 s"


def test_live_picture():
    """What a terminal shows while two cells run."""
    from types import SimpleNamespace

    from rich.console import Console

    from fedloom.cli.compare_live import ComparisonView

    now = [0.0]
    screen = Console(width=100, force_terminal=True, highlight=False, color_system=None)
    watch = ComparisonView(screen, clock=lambda: now[0])
    a, b = (SimpleNamespace(row=r, folder=r, label=f"{r}, seed 0") for r in ("A", "B"))
    with screen.capture() as shown:
        screen.print(watch.picture())
        watch.begin("Both", "out", 2, 0, {"A": "A", "B": "B"}, 2)
        watch.start(a)
        watch.start(b)
        watch.at(a, {"round": 0, "rounds": 4})
        watch.at(a, {"round": 3})
        watch.at(b, {"stage": "pretraining"})
        now[0] = 75.0
        screen.print(watch.picture())
        watch.finish(a, {"error": "no [room]", "scores": {}})
        screen.print(watch.picture())
    text = shown.get()
    for part in (
        "reading the data",
        "0/2",
        "1 min 15 s",
        "round 3/4",
        "pretraining",
        "A, seed 0: failed, no [room]",
    ):
        assert part in text
    assert "1 failed" in text
