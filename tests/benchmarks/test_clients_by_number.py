"""`many_clients.py` at its smallest: what a process of it does, in this one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_a_run_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import many_clients

    out = str(tmp_path / "rows.jsonl")
    words = ["one", "--clients", "4", "--rounds", "2", "--resident", "1", "--method", "fedavg", "--out", out]
    for given in (words, ["summary", out]):
        monkeypatch.setattr(sys, "argv", ["many_clients.py", *given])
        many_clients.main()
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")]
    assert cells[:4] == ["fedavg", "4", "4", "1"]
    assert all(float(cell.replace(",", "")) >= 0 for cell in cells[4:12])  # the process may have done its work before
