"""`fedloom runs`: what is in a folder of runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def test_runs_are_listed_newest_first(cli, smoke_run):
    Path("runs/no-run").mkdir(parents=True)
    for number, name in enumerate(("whole", "part", "begun", "broken")):
        folder = Path(shutil.copytree(smoke_run.path, Path("runs") / name))
        if name != "whole":
            (folder / "summary.json").unlink()
        if name == "part":
            (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().splitlines()[0] + "\n")
        if name == "begun":
            (folder / "metrics.jsonl").write_text("")
        for file in folder.iterdir():
            os.utime(file, (1e9 + number, 1e9 + number))
    Path("runs/whole/report.html").unlink(missing_ok=True)
    Path("runs/broken/config.yaml").write_text("[")
    shown, listed = cli("runs"), cli("runs", "runs", "--json")
    assert (shown.code, listed.code) == (0, 0)
    assert shown.err.startswith("not listed: ")
    assert "broken" in shown.err
    rows = {row["run"]: row for row in listed.json}
    assert list(rows) == ["runs/begun", "runs/part", "runs/whole"]
    assert [row["state"] for row in rows.values()] == ["not scored yet", "unfinished", "finished, no report"]
    assert [row["round"] for row in rows.values()] == [None, 0, 2]
    whole = rows["runs/whole"]
    assert (whole["method"], whole["data"], whole["seed"], whole["rounds"]) == ("fedmmkt", "flora", 0, 2)
    assert whole["scores"]["image_accuracy"] == smoke_run.summary["image_accuracy"]["after"]
    assert f"Image clients {whole['scores']['image_accuracy']:.3f}" in shown.out
    assert "2/2" in shown.out


def test_no_runs(cli):
    shown = cli("runs")
    assert (shown.code, shown.out) == (2, "")
    assert "runs: there is no such folder" in shown.err
    Path("runs").mkdir()
    assert cli("runs").out == "runs holds no runs.\n"
    assert cli("runs", "--json").json == []
