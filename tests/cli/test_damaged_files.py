"""Files that a run left behind, damaged in each way that a reader may stumble over: one line, exit code 2."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fedloom.cli import main as command_line
from fedloom.errors import BadInput, FedloomError, disk_full
from fedloom.federation.codec import Described
from fedloom.federation.ledger import Ledger
from fedloom.results import load_run
from fedloom.runs.disk import explained
from fuzz.inputs import write
from fuzz.surfaces.runs import draw_run

NASTY = {
    "deep": b"[" * 100_000 + b"\n",
    "deep object": b'{"a":' * 400 + b"1" + b"}" * 400 + b"\n",
    "digits": b'{"round": 1' + b"0" * 400 + b"}\n",
    "more digits": b'{"rounds": 1' + b"0" * 5000 + b"}\n",
    "list": b"[1, 2]\n",
    "number": b"7\n",
    "control": b'{"method": "a\\u001b[2J", "client": "a\\u0000"}\n',
    "half": b'{"method": "\\ud800"}\n',
    "bytes": b"\xff\xfe\x00{}\n",
    "types": b'{"round": "a", "rounds": "a", "direction": 1, "packages": 3, "classes": {}}\n',
}


def damaged(folder: Path, name: str, content: bytes) -> Path:
    given = draw_run(Random(1))
    write(given.replace(name, content), folder)
    return folder


def read_all(folder: Path) -> None:
    run = load_run(folder)
    for part in ("summary", "environment", "rounds", "ledger", "split"):
        getattr(run, part)


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize(
    "name", ["config.yaml", "summary.json", "environment.json", "split.json", "metrics.jsonl", "ledger.jsonl"]
)
def test_a_damaged_run_is_one_line(tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = damaged(tmp_path / "run", name, NASTY[kind])
    if (name, kind) == ("config.yaml", "types"):
        return  # which keys a run has is not looked at
    with pytest.raises(BadInput) as caught:
        read_all(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert name in line
    assert len(line) < 400
    code = command_line.main(["inspect", str(folder)])
    said = capsys.readouterr().err
    assert code in (0, 2)
    assert said.count("\n") == (code == 2)
    assert "Traceback" not in said


def test_a_loss_beyond_what_is_drawn_is_read_again(tmp_path: Path) -> None:
    row = {"round": 1, "losses": {"generator": 1.7e308, "a": -1e30}, "facts": {"led": 1e200}, "image_accuracy": 0.5}
    folder = damaged(tmp_path / "run", "metrics.jsonl", (json.dumps({**row, "round": 0}) + "\n").encode() * 1)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    run = load_run(folder)
    assert run.rounds[1]["losses"] == row["losses"]
    _ = run.warnings, run.metrics
    assert command_line.main(["report", str(folder)]) == 0


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/there/a.npy")
    said_so = "Error while serializing: I/O error: No space left on device (os error 28)"  # as safetensors says it
    errors: list[Exception] = [full, RuntimeError("file write failed"), ValueError(said_so)]
    for error in errors:
        assert disk_full(error)
        monkeypatch.setattr(command_line, "command_tree", lambda error=error: _raising(error))
        assert command_line.main(["runs"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: the disk is full")
        assert said.count("\n") == 1
        with pytest.raises(FedloomError, match="cannot write"), explained("write", tmp_path):
            raise error
    assert not disk_full(RuntimeError("out of memory"))
    with pytest.raises(ZeroDivisionError), explained("write", tmp_path):
        _ = 1 / 0


def _raising(error: Exception) -> Any:
    def call(**_: Any) -> None:
        raise error

    return call


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_ledger_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    ledger = Ledger()
    ledger.path = tmp_path / "ledger.jsonl"
    with pytest.raises(FedloomError, match=r"cannot write .*ledger.jsonl: No space left on device"):
        ledger.record(round=1, direction="up", client="a", verb="v", payload=b"", described=Described("Empty", ()))
    assert ledger.totals(encoded=True) == (0, 0)


def test_a_line_that_did_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    row: dict[str, Any] = {"direction": "up", "client": "a", "verb": "v", "payload": b"abc", "described": None}
    ledger.record(round=1, **row)
    before = (tmp_path / "ledger.jsonl").read_bytes()

    class Short:
        """A file that takes half of what it is given."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, line: bytes) -> int:
            return int(self.file.write(line[: len(line) // 2]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    whole = ledger._file
    monkeypatch.setattr(ledger, "_file", Short(whole))
    with pytest.raises(FedloomError, match="No space left"):
        ledger.record(round=2, **row)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    monkeypatch.setattr(ledger, "_file", whole)
    ledger.record(round=2, **row)
    assert [r["round"] for r in ledger.rows()] == [1, 2]
