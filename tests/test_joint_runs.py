"""Runs of multimodal clients: the same numbers with workers and after a stop; what the folder holds; bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedloom
from fedloom.errors import BadInput
from test_engines import overrides
from whole_runs import assert_equal

ROUNDS = 2
GIVEN = (*overrides("fedcmi"), f"rounds={ROUNDS}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> fedloom.Run:
    out = tmp_path_factory.mktemp("joint") / "run"
    return fedloom.run(preset="smoke", method="fedcmi", overrides=GIVEN, out=out)


@pytest.mark.conformance
def test_a_worker(whole: fedloom.Run, tmp_path: Path) -> None:
    """All clients in another process; in two: `test_experiment`, and all methods by `make conformance`."""
    given = (*GIVEN, "engine.workers=1")
    assert_equal(fedloom.run(preset="smoke", method="fedcmi", overrides=given, out=tmp_path / "run"), whole)


def test_a_run_that_was_stopped_after_a_round(whole: fedloom.Run, tmp_path: Path) -> None:
    """Its observer stops it in the middle of the second round; the folder goes on from the first."""

    class Stop(fedloom.progress.Observer):
        def round(self, row: dict) -> None:  # type: ignore[override]
            if row["round"] == 1:
                raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fedloom.run(preset="smoke", method="fedcmi", overrides=GIVEN, out=out, observer=Stop())
    assert_equal(fedloom.run(resume=out), whole)


def test_scores_of_a_round(whole: fedloom.Run) -> None:
    first, last = whole.rounds[0], whole.rounds[-1]
    for row in (first, last):
        for key in (
            "joint_accuracy",
            "server_accuracy",
            "audio_own",
            "image_zeros",
            "image_filled",
            "audio_probe",
        ):
            assert 0 <= row[key] <= 1, key
        assert [len(row["per_class"][k]) for k in ("server", "audio_own")] == [4, 4]
    assert last["facts"]["dominance"] > 0
    assert last["per_client"].keys() == {f"joint-{i}" for i in range(4)}
    assert whole.summary["server_accuracy"]["after"] == last["server_accuracy"]


def test_exports_of_every_client(whole: fedloom.Run) -> None:
    for i in range(4):
        folder = whole.path / "export" / f"joint-{i}"
        assert {p.name for p in folder.iterdir()} >= {"audio", "image", "fusion.safetensors", "fusion.json"}
        assert (folder / "image" / "preprocessor_config.json").exists()
        arrays = load_file(folder / "fusion.safetensors")
        assert {name.split(".")[0] for name in arrays} == {
            *("fusion", "self_projectors", "infiltration", "classifiers")
        }
        assert all(np.isfinite(v).all() for v in arrays.values())
    assert json.loads((whole.path / "export" / "joint-0" / "fusion.json").read_text())["streams"] == [
        "audio",
        "image",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("method=disentafl", "settings=null", "settings={}"), "disentafl has no part for multimodal clients"),
        (
            ("method=ogm-ge", "settings=null", "settings={}", "clients.optimizer=adamw"),
            "clients.optimizer = 'adamw': ogm-ge",
        ),
        (('clients.image=[{"arch":"vit","hidden":8,"width":8}]',), "fedcmi is for multimodal clients"),
        (("data.multi_ratio=1.5",), "data.multi_ratio = 1.5"),
        (("data.corruption.wrong_label=-1",), "data.corruption.wrong_label = -1"),
        (("settings.warmup=-1",), "settings.warmup = -1"),
        (('clients.joint=[{"arch":"resnet+bert"}]',), "reads image and text, duet has audio and image"),
        (("data.options.per_class=2", "data.minimum=8"), "multimodal clients"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(given: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said) as error:
        fedloom.run(preset="smoke", overrides=("method=fedcmi", *GIVEN, *given), out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_corruption_takes_from_every_kind_of_client(tmp_path: Path) -> None:
    """Missing and wrong labels with pictures and texts: other numbers, and fewer private samples."""
    base = (*overrides("fedavg"), "rounds=1", "clients.warm_steps=0", "clients.public_steps=0")
    corrupt = ("data.corruption.missing_label=0.5", "data.corruption.wrong_label=0.5")
    clean, broken = (
        fedloom.run(preset="smoke", method="fedavg", overrides=(*base, *more), out=tmp_path / str(len(more)))
        for more in ((), corrupt)
    )
    assert clean.rounds[0]["per_client"] == broken.rounds[0]["per_client"]
    assert clean.rounds[1]["losses"] != broken.rounds[1]["losses"]


# --------------------------------------------------------------------------------- a second kind of data in mid-run

SECOND = ("rounds=3", "participation.kinds.joint-0.image=2")


@pytest.mark.parametrize("method", ["fedcmi", "fedmsplit"])
def test_a_client_gains_a_second_kind(method: str, tmp_path: Path) -> None:
    """It sends and is sent the streams of what it has; resumed, it has what it had."""

    class Stop(fedloom.progress.Observer):
        def round(self, row: dict) -> None:  # type: ignore[override]
            if row["round"] == 2:
                raise KeyboardInterrupt

    given = (*GIVEN, *SECOND)
    whole = fedloom.run(preset="smoke", method=method, overrides=given, out=tmp_path / "whole")
    up = [r for r in whole.ledger if r["verb"] == "fit" and r["direction"] == "up"]
    sent = {(r["round"], r["client"]): r["payload_bytes"] for r in up}
    assert sent[1, "joint-0"] < sent[1, "joint-1"]
    assert sent[2, "joint-0"] == sent[2, "joint-1"] == sent[3, "joint-0"]
    assert all(not row["missing"] for row in whole.rounds[1:])
    with pytest.raises(KeyboardInterrupt):
        fedloom.run(preset="smoke", method=method, overrides=given, out=tmp_path / "run", observer=Stop())
    assert_equal(fedloom.run(resume=tmp_path / "run"), whole)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("joint-9.image=2", "unknown multimodal client 'joint-9'"),
        ("joint-0.text=2", "participation.kinds.joint-0: text, allowed: audio or image"),
        ("joint-0={audio: 2, image: 3}", "participation.kinds.joint-0: both kinds, allowed: one of audio and image"),
        ("joint-0.image=2 settings.secure=true method=fedavg", "participation.kinds: secure sums"),
    ],
)
def test_kinds_that_cannot_come_are_one_line(given: str, said: str, tmp_path: Path) -> None:
    first, *more = given.split(" ") if "{" not in given else [given]
    with pytest.raises(BadInput) as found:
        fedloom.run(
            preset="smoke",
            method="fedavg" if "method=fedavg" in more else "fedcmi",
            overrides=(*GIVEN, f"participation.kinds.{first}", *(m for m in more if not m.startswith("method"))),
            out=tmp_path / "run",
        )
    assert said in str(found.value)
