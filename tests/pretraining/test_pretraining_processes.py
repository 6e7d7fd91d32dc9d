"""Assets built in child processes: how their failures come back."""

from __future__ import annotations

import pytest

from fedloom.config import load_config
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.pretraining.processes import build_side_by_side
from fedloom.progress import Observer


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few steps would be trained in this process."""
    monkeypatch.setattr("fedloom.experiment.pretraining.processes.FEW", 0)


CHILD = """
import os
from fedloom.errors import BadInput, FedloomError
from fedloom.experiment.pretraining import processes
def build(config, kinds, tell, seconds):
    {}
processes._build = build
processes.work()
"""


def build(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Two chains, each in a child that does `code` instead of building."""
    monkeypatch.setattr("fedloom.experiment.pretraining.processes._CHILD", ["-c", CHILD.format(code)])
    build_side_by_side(load_config(preset="smoke"), [["clip"], ["judge"]], Observer())


@pytest.mark.parametrize("kind", [FedloomError, BadInput])
def test_an_error_that_a_person_can_mend_is_one_line(kind, monkeypatch):
    with pytest.raises(FedloomError) as caught:
        build(monkeypatch, f"raise {kind.__name__}('the disk\\n is full')")
    assert type(caught.value) is kind
    assert str(caught.value) == "pretraining failed: the disk is full"


def test_a_bug_keeps_its_traceback(monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        build(monkeypatch, "[][len(kinds)]")
    assert not isinstance(caught.value, FedloomError)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("pretraining failed in a child process (exit status 1)")
    assert lines[1] == "Traceback (most recent call last):"
    assert any(line.endswith("in build") for line in lines)
    assert lines[-1] == "IndexError: list index out of range"


def test_one_of_two_fails(monkeypatch):
    with pytest.raises(FedloomError, match="no judge"):
        build(monkeypatch, "if 'judge' in kinds: raise FedloomError('no judge')")


def test_a_child_that_is_killed(monkeypatch):
    with pytest.raises(FedloomError, match=r"pretraining failed: process \d+ was killed by signal 9 \(Killed\)"):
        build(monkeypatch, "os.kill(os.getpid(), 9)")


def test_children_that_succeed(monkeypatch):
    told = []

    class Watch(Observer):
        def stage(self, name, total=None):
            told.append((name, total))

        def at(self, done, note=""):
            told.append(done)

    monkeypatch.setattr("fedloom.experiment.pretraining.processes._CHILD", ["-c", CHILD.format("print(7); tell(7)")])
    config = load_config(preset="smoke")
    build_side_by_side(config, [["clip"], ["judge"]], Watch())
    total = config.server.clip.steps + config.evaluation.judge.steps
    assert told[0] == ("pretraining clip, judge", total)
    assert told[-1] == total
    assert {7, 14} & set(told)
