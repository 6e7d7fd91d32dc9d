"""`fedloom audit`: what it prints and writes, and what it refuses in one line."""

from __future__ import annotations

import json

import pytest

import fedloom
from fedloom.cli.main import main

QUICK = (
    *("rounds=1", "engine.keep_messages=true", "clients.public_steps=0", "clients.warm_steps=0", "clients.text=[]"),
    "clients.image=[{arch: vit, hidden: 16, layers: 1, heads: 2, patch: 6, width: 16}]",
    *("settings.private_steps=1", "settings.extra_steps=0", "data.canaries.count=10"),
)


@pytest.fixture(scope="module")
def kept(fedloom_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli-audit") / "run"
    return fedloom.run(method="fedavg", preset="smoke", overrides=QUICK, out=out).path


def test_tables_and_the_report(kept, capsys):
    assert main(["audit", str(kept), "--shadows", "0", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "image-0" in said.out
    assert "Epsilon at least" in said.out
    assert said.err == ""
    page = (kept / "report.html").read_text()
    for title in ("What the server learned", "Was this sample among the training samples?", "Canaries"):
        assert title in page
    assert "membership by likelihood ratio" not in page


def test_figures_as_json(kept, capsys):
    assert main(["audit", str(kept), "--shadows", "0", "--attack", "labels", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)[str(kept)]
    assert told["clients"]["image-0"].keys() == {"task", "labels"}


def test_what_is_refused(kept, smoke_run, capsys):
    for words, said in (
        ([str(smoke_run.path)], "has kept no messages: run it with --set engine.keep_messages=true"),
        ([str(kept), "--attack", "theft"], "'theft', allowed: membership, reconstruction, labels, canaries"),
        ([str(kept), "--shadows", "3"], "allowed: 0, or an even number from 4 on"),
        ([str(kept / "samples")], "is no run folder"),
    ):
        assert main(["audit", *words, "--quiet"]) == 2
        line = capsys.readouterr().err
        assert said in line
        assert line.count("\n") == 1
