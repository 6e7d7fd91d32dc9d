"""Every example runs as it stands, and stays short."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = (
    *("add_a_data_set.py", "add_a_metric.py", "bring_a_model.py", "compare_two_methods.py"),
    *("load_generator.py", "own_data.py", "run_fedmmkt.py", "write_a_method.py"),
)


def test_all_examples_are_tested():
    assert tuple(sorted(p.name for p in EXAMPLES.glob("*.py"))) == SCRIPTS


# Two that pretrain models of their own, and one much like the others, half a minute of a processor or more each, run
# with `make conformance`.
LONG = ("add_a_metric.py", "compare_two_methods.py", "own_data.py")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.conformance if n in LONG else ()) for n in SCRIPTS])
def test_example(name, smoke_run, tmp_path, monkeypatch, capsys):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60
    arguments = [str(smoke_run.path)] if name == "load_generator.py" else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert capsys.readouterr().out
