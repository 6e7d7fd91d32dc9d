"""Runs that were damaged or changed while they were stopped: they come to the same numbers, or do not go on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import fedloom
from fedloom.errors import BadInput
from fedloom.experiment.begin import prepare
from fedloom.experiment.loop import carry_out
from fedloom.runs.folder import RunFolder
from whole_runs import assert_equal, rows_of

pytestmark = pytest.mark.drawn


def test_resuming_on_other_data(unbroken, tmp_path):
    """The files of a data set were changed while a run was stopped."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken.path, folder)
    (folder / "summary.json").unlink()
    facts = json.loads((folder / "environment.json").read_text())
    assert len(facts["data"]) == 64
    (folder / "environment.json").write_text(json.dumps({**facts, "data": "0" * 64}))
    with pytest.raises(BadInput, match=r"its data have changed since it began \(digest 000000000000 "):
        fedloom.run(resume=folder)


def _without_a_row(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:1] + lines[2:]))


def _cut_short(name, size):
    def cut(folder):
        data = (folder / name).read_bytes()[:size]
        (folder / name).write_bytes(data[: data.rfind(b"\n") + 1])

    return cut


def _edited(folder):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("\nseed: 0\n", "\nseed: 1\n"))


def _unpinned(folder):
    """Nothing says any more that the settings were others."""
    _edited(folder)
    (folder / "environment.json").unlink()


def _of_an_older_checkpoint_alone(folder):
    (folder / "checkpoints" / "round_0002" / "server.safetensors").write_bytes(b"")
    _cut_short("metrics.jsonl", -30)(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without_a_row, r"metrics.jsonl: holds the rounds 0, 2, 3, expected 0 to 3"),
        (_of_an_older_checkpoint_alone, r"metrics.jsonl: holds the rounds 0, 1, 2, expected 0 to 3"),
        (_cut_short("metrics.jsonl", 0), r"metrics.jsonl: holds the rounds none"),
        (lambda folder: (folder / "ledger.jsonl").unlink(), r"ledger.jsonl: of round 1 it holds 0 bytes up"),
        (_cut_short("ledger.jsonl", 4000), r"ledger.jsonl: of round 1 it holds \d+ bytes"),
        (_edited, "its settings in config.yaml have changed since it began"),
        (_unpinned, "environment.json: it lacks the digest of its settings in config.yaml"),
    ],
)
def test_resuming_with_damaged_files(damage, said, unbroken, tmp_path):
    """What would be trained on, or counted, otherwise than in an unbroken run: refused, and nothing is lost."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken.path, folder)
    (folder / "summary.json").unlink()
    damage(folder)
    kept = (".json", ".jsonl", ".safetensors")
    files = {file: file.read_bytes() for file in folder.rglob("*.*") if file.suffix in kept}
    with pytest.raises(BadInput, match=said):
        fedloom.run(resume=folder)
    assert {file: file.read_bytes() for file in folder.rglob("*.*") if file.suffix in kept} == files


def _half_a_line(folder):
    file = folder / "metrics.jsonl"
    os.truncate(file, file.stat().st_size - 50)


def _nothing_sent_in_round_3(folder):
    lines = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_text("".join(line for line in lines if json.loads(line)["round"] < 3))


@pytest.mark.parametrize("damage", [_half_a_line, _cut_short("metrics.jsonl", -30), _nothing_sent_in_round_3])
def test_resuming_from_the_checkpoint_that_the_lines_cover(damage, unbroken, tmp_path):
    """The newest lacks lines, the one before does not: it is gone on from there, to the same numbers."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken.path, folder)
    (folder / "summary.json").unlink()
    damage(folder)
    assert_equal(fedloom.run(resume=folder), unbroken)
    assert json.loads((folder / "summary.json").read_text())["bytes_up"] == unbroken.summary["bytes_up"]
    said = (folder / "log.txt").read_text()
    assert "warning: checkpoint round_0003 is skipped: " in said
    assert "resumed after round 2\n" in said


def test_resuming_what_was_replaced_meanwhile(unbroken, tmp_path):
    """Between the reading of its configuration and its lock lie the minutes in which data are read."""
    folder = RunFolder.create(tmp_path / "run", unbroken.config)
    prepared = prepare(None, folder.path)
    RunFolder.create(folder.path, {**unbroken.config, "seed": 1}, overwrite=True)
    with pytest.raises(BadInput, match="another configuration: seed: the run has 1, now 0"):
        carry_out(prepared)


def test_resuming_without_the_folders_of_pictures_and_exports(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken.path, folder)
    (folder / "summary.json").unlink()
    for part in ("samples", "export"):
        shutil.rmtree(folder / part)
    assert rows_of(fedloom.run(resume=folder)) == rows_of(unbroken)
    assert (folder / "export").exists()


def test_resuming_on_other_weights(tmp_path):
    """They lie where they lay, and are others."""
    folder = RunFolder.create(tmp_path / "run", {"method": "fedmd"})
    folder.pin_inputs("a" * 64, {}, {})  # of an earlier version, which wrote no weights down
    folder.pin_inputs("a" * 64, {"clients.image.0.pretrained": "b" * 64}, {})
    folder.pin_inputs("a" * 64, {"clients.image.0.pretrained": "b" * 64}, {})
    with pytest.raises(BadInput, match=r"the weights of clients\.image\.0\.pretrained have changed since it began"):
        folder.pin_inputs("a" * 64, {"clients.image.0.pretrained": "c" * 64}, {})


def test_resuming_without_digests(tmp_path):
    """Those of settings and data are needed once there is a round or a checkpoint: they are written before both."""
    for name in ("metrics.jsonl", "checkpoints/round_0000"):
        folder = RunFolder.create(tmp_path / name.partition(".")[0], {"method": "fedmd"})
        facts = json.loads((folder.path / "environment.json").read_text())
        folder.pin_inputs("a" * 64, {}, {})
        pinned = json.loads((folder.path / "environment.json").read_text())
        (folder.path / "environment.json").write_text(json.dumps(facts))
        folder.pin_inputs("a" * 64, {}, {})  # killed before its first round
        folder.append_round({"round": 0}) if name == "metrics.jsonl" else (folder.path / name).mkdir()
        for lost, what in (("config", "its settings in config.yaml"), ("data", "its data")):
            left = {key: value for key, value in pinned.items() if key not in (lost, "weights", "code")}
            (folder.path / "environment.json").write_text(json.dumps(left))
            with pytest.raises(BadInput, match=f"environment.json: it lacks the digest of {what}"):
                folder.pin_inputs("a" * 64, {}, {})
            assert json.loads((folder.path / "environment.json").read_text()) == left
        old = {key: value for key, value in pinned.items() if key not in ("weights", "code")}
        (folder.path / "environment.json").write_text(json.dumps(old))
        folder.pin_inputs("a" * 64, {"clients.image.0.pretrained": "b" * 64}, {})  # an earlier version wrote none down


def test_resuming_with_other_code(tmp_path, monkeypatch):
    """A method of one's own that was edited would go on to numbers that no unbroken run has."""
    own = tmp_path / "own.py"
    source = Path(__file__).parent.parent.parent / "examples" / "write_a_method.py"
    own.write_text(source.read_text())
    fedloom.run(method=f"{own}:METHOD", preset="smoke", rounds=1, out=tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    own.write_text(source.read_text() + "\n# other\n")
    with pytest.raises(BadInput, match=r"the code of .*own\.py:METHOD have changed since it began"):
        fedloom.run(resume=tmp_path / "run")
