"""Whole runs, and what reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_run_prints_scores_and_report(cli, smoke_overrides):
    overrides = [part for text in smoke_overrides for part in ("--set", text)]
    shown = cli("run", "--preset", "smoke", *overrides, "--rounds", 1)
    assert shown.code == 0
    assert "Image clients" in shown.out
    assert "report runs/fedmmkt-flora-0/report.html" in shown.out
    told = json.loads(Path("runs/fedmmkt-flora-0/summary.json").read_text())["warnings"]
    assert {"too-few-steps", "few-test-samples", "judge-unreliable", "one-seed"} <= {w["name"] for w in told}
    assert f"Before you trust these scores:\n  too-few-steps: {told[0]['message']}\n" in shown.out
    assert Path("runs/fedmmkt-flora-0/report.html").is_file()
    lines = shown.err.splitlines()
    assert any(line.startswith("before  Image clients ") for line in lines)
    assert any(line.startswith("round 1/1  ") and "kept" in line for line in lines)


def test_json_is_alone_on_stdout(cli):
    shown = cli("run", "--preset", "smoke", "--method", "standalone", "--rounds", 1, "--out", "here", "--json")
    assert shown.code == 0
    assert shown.json == json.loads(Path("here/summary.json").read_text())
    assert shown.json["t2i_accuracy"] == {"before": None, "after": None}
    assert "round 1/1" in shown.err


def test_quiet_shows_no_progress(cli):
    shown = cli("run", "--preset", "smoke", "--method", "standalone", "--rounds", 0, "--out", "here", "--quiet")
    assert (shown.code, shown.err) == (0, "")


def test_overwrite(cli):
    command = (
        "run",
        "--preset",
        "smoke",
        "--method",
        "standalone",
        "--rounds",
        0,
        "--out",
        "here",
        "--quiet",
    )
    assert cli(*command).code == 0
    assert cli(*command).code == 2
    assert cli(*command, "--overwrite").code == 0


def interrupted(source: Path, target: Path) -> Path:
    """A copy of a finished run as if it had been killed after its first round."""
    shutil.copytree(source, target)
    (target / "summary.json").unlink()
    shutil.rmtree(target / "checkpoints" / "round_0002")
    return target


@pytest.mark.parametrize("options", [[], ["--rounds", "2"]])
def test_resumed_run_ends_like_the_unbroken_one(cli, smoke_run, tmp_path, options):
    folder = interrupted(smoke_run.path, tmp_path / "again")
    shown = cli("run", "--resume", folder, *options, "--json")
    assert shown.code == 0, shown.err
    assert "resumed after round 1" in shown.err
    assert "round 1/2" not in shown.err
    assert "round 2/2" in shown.err
    for score in ("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score", "fid"):
        assert shown.json[score] == smoke_run.summary[score]


def test_resuming_a_finished_run_does_nothing(cli, smoke_run, tmp_path):
    shutil.copytree(smoke_run.path, tmp_path / "done")
    shown = cli("run", "--resume", "done", "--json")
    assert shown.json == smoke_run.summary


def test_inspect(cli, smoke_run):
    shown, listed = cli("inspect", smoke_run.path), cli("inspect", smoke_run.path, "--json").json
    assert "leaves the client" in shown.out
    assert "representations" in shown.out
    cells = [line.split("│") for line in shown.out.splitlines() if "│" in line]
    counted = {cell[3].strip(): cell[-2].strip() for cell in cells}
    assert (counted["infer"], counted["evaluate"]) == ("yes", "no")
    # A run's own figures are those of the encoded messages, headers included.
    assert listed["total"]["encoded_up"] == smoke_run.summary["bytes_up"]
    assert listed["total"]["encoded_down"] == smoke_run.summary["bytes_down"]
    assert 0 < listed["total"]["bytes_up"] < listed["total"]["encoded_up"]
    for row, line in zip(listed["rounds"], smoke_run.rounds):
        assert (row["encoded_up"], row["encoded_down"]) == (line["bytes_up"], line["bytes_down"])
        assert row["formula_up"] == line["formula_up"]
    assert {flow["client"] for flow in listed["flows"]} == {"image-0", "image-1", "text-0", "text-1"}


def test_report_of_one_and_of_several(cli, smoke_run, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(smoke_run.path, tmp_path / name)
    assert cli("report", "a").out == "report a/report.html\n"
    assert cli("report", "a", "b", "--out", "both.html").out == "report both.html\n"
    assert "2 runs compared" in Path("both.html").read_text()


@pytest.mark.drawn
def test_generate(cli, smoke_run):
    command = ("generate", smoke_run.path, "--prompt", "A picture of iris.", "--prompt", "[/x] two", "--n", 3)
    assert cli(*command).code == 0
    assert cli(*command, "--out", "b.png").code == 0
    assert cli(*command, "--out", "new/c.png", "--seed", 1, "--steps", 3, "--guidance", 2).code == 0
    a, b, c = (np.asarray(Image.open(p)) for p in ("grid.png", "b.png", "new/c.png"))
    assert a.shape == c.shape
    assert (a == b).all()
    assert (a != c).any()


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


QUICK = ("run", "--preset", "smoke", "--method", "standalone", "--rounds", 1)


@pytest.mark.parametrize("more", [(), ("--out", "here"), ("--quiet",)])
def test_interrupted_in_pretraining(cli, monkeypatch, more):
    with monkeypatch.context() as patch:
        patch.setenv("FEDLOOM_CACHE", str(Path("cache").resolve()))
        patch.setattr("fedloom.experiment.pretraining.assets.build_side_by_side", interrupt)
        shown = cli(*QUICK, *more)
    assert (shown.code, shown.out) == (130, "")
    assert "interrupted. Nothing to resume yet: give the same command again" in shown.err
    assert "--resume" not in shown.err
    assert not Path("here").exists()
    assert not list(Path().glob("runs/*"))


def test_interrupted_beside_an_earlier_run(cli, monkeypatch, smoke_run):
    """The run that `--out` would replace is not what there is to resume."""
    shutil.copytree(smoke_run.path, "here")
    with monkeypatch.context() as patch:
        patch.setattr("fedloom.experiment.loop.cached_dataset", interrupt)
        shown = cli(*QUICK, "--out", "here", "--overwrite")
    assert "Nothing to resume yet" in shown.err
    assert Path("here/summary.json").exists()


@pytest.mark.parametrize("done", [0, 1])
def test_interrupted_in_a_round(cli, monkeypatch, done):
    """Before round 0 is scored there is nothing to resume, after it there is; what is said then works."""
    from fedloom.experiment.scoring import Scorer

    scores, calls = Scorer.clients, []

    def score(self, federation):
        calls.append(1)
        return scores(self, federation) if len(calls) <= done else interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "clients", score)
        shown = cli(*QUICK, "--out", "here")
    assert shown.code == 130
    if done:
        assert "go on with: fedloom run --resume here" in shown.err
        assert cli("run", "--resume", "here", "--quiet").code == 0
    else:
        assert "Nothing to resume yet: give the same command again" in shown.err
        assert not Path("here").exists()
        assert cli(*QUICK, "--out", "here", "--quiet").code == 0


def test_interrupted_before_the_report(cli, monkeypatch):
    """Both ways to the report work: that which is said, and a resume."""
    with monkeypatch.context() as patch:
        patch.setattr("fedloom.reporting.html.write_report", interrupt)
        shown = cli("run", "--preset", "smoke", "--method", "standalone", "--rounds", 0, "--out", "here")
    assert (shown.code, shown.out) == (130, "")
    assert "interrupted. The run is finished, its scores are in here/summary.json; " in shown.err
    assert shown.err.endswith("write its report with: fedloom report here\n")
    for command in (("report", "here"), ("run", "--resume", "here")):
        Path("here/report.html").unlink(missing_ok=True)
        assert cli(*command).code == 0
        assert Path("here/report.html").is_file()


def test_a_bug_in_pretraining_keeps_its_traceback(cli, monkeypatch):
    monkeypatch.setattr("fedloom.experiment.pretraining.processes.FEW", 0)
    monkeypatch.setenv("FEDLOOM_CACHE", str(Path("cache").resolve()))
    bug = "from fedloom.experiment.pretraining import processes as p; p._build = lambda *a: 1 / 0; p.work()"
    monkeypatch.setattr("fedloom.experiment.pretraining.processes._CHILD", ["-c", bug])
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*work.*ZeroDivisionError: division by zero"):
        cli(*QUICK, "--out", "here")
    assert not Path("here").exists()
