"""What TensorBoard, MLflow and W&B themselves read back of a run that was tracked; part of `make conformance`."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.progress import Observer, Observers
from fedloom.runs.folder import RunFolder

pytestmark = [pytest.mark.conformance, pytest.mark.drawn]
NAMES = ["tensorboard", "mlflow", "wandb"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the tools write; nobody has logged in."""
    found = tmp_path_factory.mktemp("tools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"file://{found}/mlruns")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("WANDB_DIR", str(found))
        patch.setenv("HOME", str(found))
        patch.delenv("WANDB_API_KEY", raising=False)
        yield found


@pytest.fixture(scope="module")
def run(place: Path, smoke_overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> fedloom.Run:
    """A run of one round, and then resumed for another, both tracked."""
    path = tmp_path_factory.mktemp("tracked") / "run"
    said: list[str] = []

    class Said(Observer):
        def filled(self, line: str) -> None:
            said.append(line)

    class Stop(Observer):
        def phase(self, round: int, name: str) -> None:
            if (round, name) == (2, "round"):
                raise KeyboardInterrupt

    observer = Observers([Said(), Stop()])
    with pytest.raises(KeyboardInterrupt):
        fedloom.run(preset="smoke", overrides=smoke_overrides, rounds=2, out=path, track=NAMES, observer=observer)
    done = fedloom.resume(path, track=NAMES, observer=Said())
    assert [line for line in said if "tracker" in line] == []
    return done


def expected(run: fedloom.Run, key: str) -> list[tuple[int, float]]:
    return [(row["round"], pytest.approx(row[key], rel=1e-6)) for row in run.rounds if row.get(key) is not None]


def test_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    found.Reload()
    scalars = [(one.step, one.value) for one in found.Scalars("scores/image_accuracy")]
    assert scalars == expected(run, "image_accuracy")
    assert [one.step for one in found.Images("pictures/samples")] == [0, 1, 2]
    assert [one.step for one in found.Images("pictures/labels")] == [1, 2]
    assert "clients/image-0" in found.Tags()["scalars"]


def test_mlflow(run, place):
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("fedloom").experiment_id])
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "scores/image_accuracy")
    assert [(one.step, one.value) for one in history] == expected(run, "image_accuracy")
    assert found.data.params["method"] == "fedmmkt"
    assert found.data.tags["fedloom.run"] == RunFolder.open(run.path).run_id
    assert [f.path for f in client.list_artifacts(found.info.run_id, "pictures/labels")] == [
        "pictures/labels/labels_0001.png",
        "pictures/labels/labels_0002.png",
    ]


def records(log: bytes) -> Iterator[bytes]:
    """Those of a .wandb file: seven bytes of W&B's, then a log of LevelDB's, which has blocks of 32 KiB.

    A record may be cut in pieces (kind 1: whole, 2: first, 3: middle, 4: last), each after its sum, length and kind.
    """
    at, whole, block = 7, b"", 1 << 15
    while at + 7 <= len(log):
        if block - at % block < 7:  # too little for another piece
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", log[at + 4 : at + 7])
        if not kind:
            return
        whole = (b"" if kind < 3 else whole) + log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole


def test_wandb(run, place):
    from wandb.proto import wandb_internal_pb2

    rows: dict[int, dict[str, Any]] = {}
    ids, configured = set(), set()
    files = sorted(place.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2  # before and after the interruption; `wandb sync` makes them one
    for file in files:
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
                configured |= {item.key for item in record.run.config.update}
            if record.HasField("history"):
                items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                rows.setdefault(record.history.step.num, {}).update(items)
    assert ids == {RunFolder.open(run.path).run_id}
    assert "settings.gamma" in configured
    values = [
        (step, row["scores/image_accuracy"]) for step, row in sorted(rows.items()) if "scores/image_accuracy" in row
    ]
    assert values == expected(run, "image_accuracy")
    assert {"pictures/labels", "pictures/samples"} <= {name.removesuffix("/_type") for name in rows[2]}


def test_an_mlflow_that_cannot_be_reached_holds_up_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    said: list[str] = []

    class Said(Observer):
        def filled(self, line: str) -> None:
            said.append(line)

    given = {"preset": "smoke", "method": "standalone", "rounds": 1}
    done = fedloom.run(out=tmp_path / "run", track=["mlflow"], observer=Said(), **given)
    assert done.finished
    assert len([line for line in said if line.startswith("tracker mlflow has failed, the run goes on without it")]) == 1
    shutil.rmtree(tmp_path / "run")
