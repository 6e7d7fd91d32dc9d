"""`benchmarks/pate_cost.py`: the more clients, the less a round's votes cost."""

from __future__ import annotations

import sys

import pytest


def test_what_votes_cost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import pate_cost

    monkeypatch.setattr(sys, "argv", ["pate_cost.py", "--clients", "8,100", "--samples", "20", "--most", "3"])
    pate_cost.main()
    few, many = ([cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:])
    assert (few[0], many[0]) == ("8", "100")
    assert float(few[3]) > 5 * float(many[3])
    assert float(many[4]) < float(many[3])
    assert (few[6], many[6]) == ("0", "3 or more")
