from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
import yaml

from fedloom.errors import BadInput, FedloomError
from fedloom.results import load_run
from fedloom.runs import RunFolder, new_run_path
from fedloom.runs.disk import append_line, is_held, locked, plain, read_lines, read_object, write_atomic
from fedloom.runs.folder import new_run

CONFIG = {
    "method": "fedmmkt",
    "data": "flora",
    "seed": 3,
    "engine": {"workers": 2, "name": "local"},
    "eps": math.inf,
}


def test_a_new_folder_holds_the_configuration_and_the_environment(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", {**CONFIG, "out": tmp_path}, environment={"device": "cpu"})
    stored = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert stored == {**CONFIG, "out": str(tmp_path)} == folder.config
    facts = json.loads((tmp_path / "a" / "environment.json").read_text())
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["python"].startswith(f"{sys.version_info.major}.")
    assert facts["cpu_count"]
    assert facts["device"] == "cpu"
    assert "threads" in facts
    assert "platform" in facts
    assert folder.read_rounds() == []
    folder.log("hello")
    assert folder.log_file.read_text().endswith(" hello\n")


def test_an_existing_run_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    folder.append_round({"round": 0})
    (tmp_path / "a" / "my notes.txt").write_text("keep")
    with pytest.raises(BadInput, match="holds a run already"):
        RunFolder.create(tmp_path / "a", CONFIG)
    assert folder.read_rounds() == [{"round": 0}]
    again = RunFolder.create(tmp_path / "a", CONFIG, overwrite=True)
    assert again.read_rounds() == []
    assert (tmp_path / "a" / "my notes.txt").read_text() == "keep"


def test_a_folder_that_is_no_run_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(BadInput, match=r"thesis\.tex"):
            RunFolder.create(tmp_path, CONFIG, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(BadInput, match="is a file"):
        RunFolder.create(tmp_path / "thesis.tex", CONFIG)


def test_a_half_made_folder_is_taken_over(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "a", CONFIG)
    (tmp_path / "a" / "config.yaml").unlink()
    (tmp_path / "a" / ".config.yaml.0000.part").write_text("meth")
    assert RunFolder.create(tmp_path / "a", CONFIG).config == CONFIG


def test_a_run_without_a_checkpoint_is_discarded(tmp_path: Path) -> None:
    for name in ("empty", "shared", "begun"):
        folder = RunFolder.create(tmp_path / name, CONFIG)
        folder.log("pretraining")
        (folder.checkpoints / ".round_0000-part").mkdir()
    (tmp_path / "shared" / "notes.txt").write_text("mine")
    (tmp_path / "begun" / "checkpoints" / "round_0000").mkdir()
    with folder.exclusive(), pytest.raises(BadInput, match="another process"):
        RunFolder(tmp_path / "begun").discard_unless_begun()
    for name in ("empty", "shared", "begun"):
        RunFolder(tmp_path / name).discard_unless_begun()
    assert not (tmp_path / "empty").exists()
    assert [p.name for p in (tmp_path / "shared").iterdir()] == ["notes.txt"]
    assert RunFolder.open(tmp_path / "begun").config == CONFIG


def test_open_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(BadInput, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.yaml").write_text("- [")
    with pytest.raises(BadInput, match="not YAML") as caught:
        RunFolder.open(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "config.yaml").write_text("just text")
    with pytest.raises(BadInput, match="expected keys"):
        load_run(tmp_path)


def test_new_run_paths_never_clash(tmp_path: Path) -> None:
    names = [new_run_path("fedmmkt", "flora", 0, tmp_path / "runs").name for _ in range(3)]
    assert names == ["fedmmkt-flora-0", "fedmmkt-flora-0-2", "fedmmkt-flora-0-3"]
    assert new_run_path("m", "/somewhere/my data", 1, tmp_path).name == "m-my-data-1"
    RunFolder.create(tmp_path / "runs" / names[1], CONFIG)  # an empty folder may become a run


def test_rounds_hold_no_nan_and_survive_a_torn_line(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    folder.append_round({"round": 0, "fid": np.float32("nan"), "clip_score": math.inf, "n": np.int64(3)})
    assert folder.metrics.read_text() == '{"round": 0, "fid": null, "clip_score": null, "n": 3}\n'
    with folder.metrics.open("a") as handle:
        handle.write('{"round": 1, "fi')  # killed here
    assert [row["round"] for row in folder.read_rounds()] == [0]
    folder.append_round({"round": 1})
    assert [row["round"] for row in folder.read_rounds()] == [0, 1]
    folder.rewrite_rounds([{"round": 7}])
    assert folder.read_rounds() == [{"round": 7}]
    folder.metrics.write_text('{"round": 0}\nnonsense\n{"round": 1}\n')
    with pytest.raises(FedloomError, match="line 2"):
        folder.read_rounds()


SENT = {
    "direction": "up",
    "payload_bytes": 8,
    "encoded_bytes": 64,
    "counted": True,
}  # of every line of a ledger


def test_rewind_forgets_later_rounds(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    for r in range(4):
        folder.append_round({"round": r})
        append_line(folder.ledger, json.dumps({"round": r, **SENT}))
        folder.sample_picture(r).write_bytes(b"png")
        folder.label_picture(r).write_bytes(b"png")
    folder.write_summary({"method": "fedmmkt"})
    folder.rewind(1)
    assert [row["round"] for row in folder.read_rounds()] == [0, 1]
    assert [row["round"] for row in read_lines(folder.ledger)] == [0, 1]
    assert sorted(p.name for p in folder.samples.iterdir()) == [
        "labels_0000.png",
        "labels_0001.png",
        "round_0000.png",
        "round_0001.png",
    ]
    assert not folder.summary.exists()


def test_same_config_names_the_differences(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", {**CONFIG, "sizes": (1, 2), "x": math.nan})
    same = {**CONFIG, "sizes": [1, 2], "x": math.nan}
    assert folder.same_config(same) == []
    other = {**same, "seed": 4, "engine": {"workers": 9, "name": "local"}, "new": 1}
    del other["data"]
    assert folder.same_config(other, may_differ=["engine.workers"]) == [
        "data: the run has 'flora', now nothing",
        "seed: the run has 3, now 4",
        "new: the run has nothing, now 1",
    ]
    assert len(folder.same_config(other)) == 4
    assert len(folder.same_config(other, may_differ=["engine", "new"])) == 2


def test_only_one_process_writes(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    other = RunFolder.open(folder.path)
    with folder.exclusive(), pytest.raises(BadInput, match="another process"), other.exclusive():
        pass
    with folder.exclusive():
        pass


def test_a_run_that_is_written_is_not_replaced(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    folder.append_round({"round": 0})
    with folder.exclusive(), pytest.raises(BadInput, match="another process is writing to this run"):
        RunFolder.create(tmp_path / "a", CONFIG, overwrite=True)
    assert folder.config == CONFIG
    assert folder.read_rounds() == [{"round": 0}]
    with new_run(tmp_path / "a", CONFIG, overwrite=True) as again:
        again.append_round({"round": 7})
        with pytest.raises(BadInput, match="another process"), new_run(tmp_path / "a", CONFIG, overwrite=True):
            pass  # also while the run's own process is not up yet
        with RunFolder.open(tmp_path / "a").exclusive():  # this may be that process
            pass
    assert again.read_rounds() == [{"round": 7}]


def test_of_runs_that_begin_at_once_one_goes_on(tmp_path: Path) -> None:
    ready, over = threading.Barrier(6, timeout=30), threading.Barrier(6, timeout=30)

    def begin(number: int) -> str:
        ready.wait()
        try:
            with new_run(tmp_path / "a", {"method": str(number)}, overwrite=number % 2 > 0) as folder:
                over.wait()
                return str(folder.config["method"])
        except FedloomError as error:
            over.wait()
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(begin, range(6)))
    (winner,) = (text for text in said if text.isdigit())
    assert RunFolder.open(tmp_path / "a").config == {"method": winner}
    others = [text for text in said if text != winner]
    assert [text for text in others if "another process" not in text and "holds a run already" not in text] == []


def test_what_a_run_ends_by_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no folder to clean up."""

    def lose(folder: RunFolder) -> None:
        shutil.rmtree(folder.path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_run(tmp_path / "gone", CONFIG) as folder:
        lose(folder)

    def refuse(*given: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for begin in (lambda: RunFolder.create("tm/r", CONFIG), lambda: new_run("tm/r", CONFIG).__enter__()):
        with pytest.raises(FedloomError, match=r"^cannot make the run folder tm/r: Read-only file system\.$"):
            begin()


def test_split_is_checked(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    folder.write_split(np.array([[1, 2], [3, 4]]), ["a", "b"], ["x", "y"])
    assert load_run(folder.path).split == {"classes": ["x", "y"], "clients": {"a": [1, 2], "b": [3, 4]}}
    with pytest.raises(BadInput, match=r"\(2, 3\)"):
        folder.write_split(np.array([[1, 2], [3, 4]]), ["a", "b"], ["x", "y", "z"])


def test_plain_values() -> None:
    class Colour(StrEnum):
        RED = "red"

    assert plain({"a": Colour.RED, 1: {3, 2}, "p": Path("x/y"), "z": np.ones((1, 2), np.uint8)}) == {
        "a": "red",
        "1": [2, 3],
        "p": "x/y",
        "z": [[1, 1]],
    }
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FedloomError, match=r"summary\.json: No space left on device"):
        write_atomic(path, "new")
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"round": 0}\n')
    with pytest.raises(FedloomError, match="No space left"):
        append_line(metrics, '{"round": 1}')
    assert path.read_text() == "old"
    assert metrics.read_text() == '{"round": 0}\n'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "summary.json"]


def test_a_run_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    folder.append_round({"round": 0, "labels": None, "per_client": {"image-0": 0.5}, "missing": []})
    folder.append_round(
        {"round": 1, "labels": {"kept": 3}, "per_client": {"image-0": 0.6}, "missing": [{"client": "x"}]}
    )
    sent = {"round": 1, "client": "image-0", **SENT}
    append_line(folder.ledger, json.dumps(sent))
    for r in (10, 2, 0):
        folder.sample_picture(r).write_bytes(b"")
    run = load_run(str(folder.path))
    assert run.config["seed"] == 3
    assert not run.finished
    assert run.summary == {}
    frame = run.metrics
    assert list(frame["per_client.image-0"]) == [0.5, 0.6]
    assert list(frame["missing"]) == [0, 1]
    assert math.isnan(frame["labels.kept"][0])
    assert frame["labels.kept"][1] == 3
    assert "labels" not in frame
    assert run.ledger == [sent]
    assert [p.name for p in run.samples] == ["round_0000.png", "round_0002.png", "round_0010.png"]
    with pytest.raises(BadInput, match="the run is unfinished"):
        run.generator  # noqa: B018
    folder.write_summary({"method": "fedmmkt", "fid": float("nan")})
    assert load_run(folder.path).summary == {"method": "fedmmkt", "fid": None}
    folder.summary.write_text("[1]")
    with pytest.raises(FedloomError, match=r"summary\.json"):
        load_run(folder.path).summary  # noqa: B018
    assert read_object(tmp_path / "none.json") == {}


def test_reading_runs_imports_nothing_heavy() -> None:
    code = (
        "import sys, fedloom.runs, fedloom.reporting.text, fedloom.reporting.scores\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'transformers', 'diffusers', 'numpy', 'rich'}\n"
        "bad = heavy & set(sys.modules)\n"
        "sys.exit(f'imported: {bad}' if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_lock_file_tells_whether_somebody_is_up(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock"):
        assert is_held(tmp_path / ".lock")
    assert not is_held(tmp_path / ".lock")


def test_a_lock_file_that_is_removed_locks_nobody_out_or_in(tmp_path: Path) -> None:
    """Who waited for it locks the file that is there now, as whoever comes later does."""
    waiting = threading.Event()

    def wait() -> bool:
        waiting.set()
        with locked(tmp_path / ".lock"):
            return is_held(tmp_path / ".lock")

    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / ".lock"):
            held = pool.submit(wait)
            waiting.wait()
            time.sleep(0.1)  # it has opened the file
            (tmp_path / ".lock").unlink()
        assert held.result()
