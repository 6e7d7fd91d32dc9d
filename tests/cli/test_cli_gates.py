"""Gates: what a run asks of the server's models before its first round."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedloom.config import load_config
from fedloom.data.registry import load_dataset
from fedloom.experiment.gates import right_captions

LOW = ("--set", "evaluation.gates={judge: 0.01, generator: 0.001, captions: 0.01}")
HIGH = ("--set", "evaluation.gates={judge: 1.0}")


def test_a_run_that_passes_says_so(cli, smoke_overrides):
    overrides = [part for text in smoke_overrides for part in ("--set", text)]
    shown = cli("run", "--preset", "smoke", *overrides, "--rounds", 0, *LOW, "--out", "here")
    assert shown.code == 0
    said = [line for line in shown.err.splitlines() if line.startswith("gate ")]
    assert len(said) == 3
    assert said[0].startswith("gate passed, judge: right on 0.")
    assert "real test pictures, wanted 0.01" in said[0]
    found = json.loads(Path("here/summary.json").read_text())["gates"]
    assert [(g["name"], g["passed"]) for g in found] == [("judge", True), ("generator", True), ("captions", True)]


def test_a_missed_gate_stops_the_run_unless_it_is_told_to_go_on(cli, smoke_overrides):
    overrides = [part for text in smoke_overrides for part in ("--set", text)]
    words = ("run", "--preset", "smoke", *overrides, "--rounds", 0, *HIGH, "--out", "here")
    shown = cli(*words)
    assert shown.code == 1
    assert "gate MISSED, judge: right on" in shown.err
    assert "gate missed, judge: right on" in shown.err
    assert "--ungated goes on" in shown.err
    assert not Path("here/metrics.jsonl").exists()
    shown = cli(*words, "--ungated")
    assert shown.code == 0
    assert not json.loads(Path("here/summary.json").read_text())["gates"][0]["passed"]


def test_the_doctor_measures_gates_without_a_run(cli, smoke_overrides):
    overrides = [part for text in smoke_overrides for part in ("--set", text)]
    shown = cli("doctor", "--preset", "smoke", *overrides, *LOW, "--json")
    assert shown.code == 0
    assert {g["name"] for g in shown.json["gates"]} == {"judge", "generator", "captions"}
    shown = cli("doctor", "--preset", "smoke", *overrides, *HIGH)
    assert shown.code == 1
    assert "missed" in shown.out
    assert "sets no gates" in cli("doctor", "--preset", "smoke", *overrides).out


def test_a_gate_that_cannot_be_measured(cli):
    shown = cli("run", "--preset", "smoke", "--method", "standalone", "--rounds", 0, *HIGH, "--out", "here")
    assert shown.code == 0  # a preset's gates are for its method; what has no generator needs no judge
    assert "gate judge: nothing to measure with this method and these data" in shown.out + shown.err
    shown = cli("doctor", "--preset", "smoke", "--set", "method=standalone", *HIGH)
    assert shown.code == 2
    assert "evaluation.gates: none can be measured with this method and these data" in shown.err
    with pytest.raises(Exception, match=r"evaluation\.gates\.judge"):
        load_config(overrides=["evaluation.gates={judge: 1.5}"])


def test_captions_are_read_by_a_classifier_of_real_texts():
    """One that says what the texts of a class say is right, one that says the same of all is right by chance."""
    scene = load_dataset("flora", size=12, images=60, texts=300, test=60, generic=24, reference=24)
    texts, test = scene.train["text"], scene.test["image"]
    of = [texts.texts[int(np.flatnonzero(texts.labels == c)[0])] for c in range(scene.classes)]

    class Knows:
        def caption(self, images):
            assert len(images) == len(test)
            return [of[c] for c in test.labels]

    class Repeats:
        def caption(self, images):
            return [of[0]] * len(images)

    right, chance = right_captions(scene, Knows()), right_captions(scene, Repeats())
    assert right is not None
    assert chance is not None
    assert right > 0.9
    assert chance <= 0.3
    assert right_captions(scene, None) is None
