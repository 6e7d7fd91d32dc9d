"""benchmarks/audited.py: runs with and without private steps, and a line of each."""

from __future__ import annotations

import sys


def test_a_line_a_run(monkeypatch, capsys, tmp_path):
    import audited

    small = (
        "preset=smoke",
        "settings.private_steps=2",
        "settings.extra_steps=0",
        "clients.text=[]",
        "rounds=1",
        "data.options.images=160",
    )
    words = [word for setting in small for word in ("--set", setting)]
    place = tmp_path / "audited.csv"
    asked = ["--methods", "fedavg", "--epsilons", "none", "--shadows", "0", "--out", str(place), *words]
    monkeypatch.setattr(sys, "argv", ["audited.py", *asked])
    audited.main()
    head, line = capsys.readouterr().out.split()
    assert place.read_text().split() == [head, line]
    told = dict(zip(head.split(","), line.split(",")))
    assert told["method"] == "fedavg"
    assert 0 <= float(told["auc_loss"]) <= 1
    assert float(told["guesses"]) > 0
    assert told["auc_ratio"] == ""
