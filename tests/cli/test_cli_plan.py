"""`fedloom run --plan`."""

from __future__ import annotations

import json

import pytest

from fedloom.cli.main import main


def test_tables(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preset", "smoke", "--plan"]) == 0
    said = capsys.readouterr().out
    for word in ("generator: UNet", "activations (estimate)", "43,200 up", "synthesis", "total: "):
        assert word in said
    assert list(tmp_path.iterdir()) == []


def test_json(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preset", "fedcmi", "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["models"][0]["count"] == 6
    assert plan["formula"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "--resume", "x"], "--plan is for a run that has not started"),
        (["--on", "H200"], "--on H200 is for --plan"),
        (["--plan", "--on", "H2000"], "unknown accelerator 'H2000'. Did you mean 'H200'"),
    ],
)
def test_what_does_not_go_together(arguments, said, capsys):
    assert main(["run", "--preset", "smoke", *arguments]) == 2
    assert said in capsys.readouterr().err
