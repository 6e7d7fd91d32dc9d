"""A made-up study, its runs in no time, and its kept rows: for the tests of evidence/."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from evidence import rows, running, studies

from fedloom.config import load_config

STUDY = """
title: T
preset: smoke
main: full
others: {evaluation: {every: 1000}}
base: {settings.gamma: 0.2}
arms:
  full: {}
  less: {settings.labvote: false}
  alone: {method: standalone}
without_clients: [less]
bounds: [alone]
scores: {image_accuracy: I, t2i_accuracy: G, metrics.mine: M}
claims:
  - {arm: full, reference: less, score: image_accuracy, at_least: 0.05}
  - {arm: full, reference: less, score: t2i_accuracy, at_least: 0.5}
  - {arm: full, reference: full, score: voted_accuracy_round1, reference_score: prompt_accuracy_round1}
  - {arm: alone, reference: full (before), score: image_accuracy}
tables:
  short: {rows: {full (before): before, full: "**Full**"}, scores: {image_accuracy: images}}
"""
LEVEL = {"full": 0.8, "less": 0.6, "alone": 0.5}
Script = Callable[..., str]


@pytest.fixture
def study(tmp_path: Path) -> studies.Study:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return studies.load(tmp_path / "tiny.yaml")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Script:
    """Calls study or reproduce in an empty folder; exit code and what it printed, errors too."""
    monkeypatch.chdir(tmp_path)

    def main(name: str, *words: object) -> str:
        module = __import__(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        monkeypatch.setattr(module, "end_by_signals", lambda: None)
        capsys.readouterr()
        code = module.main()
        said = capsys.readouterr()
        return f"{code}\n{said.out}{said.err}"

    return main


def write_run(place: Path, arm: str, seed: int, shift: float = 0.0) -> None:
    """What a run folder holds, as far as a row is made of it. Arms differ nearly as much on every seed."""

    def score(t: int, base: float) -> float:
        return base + 0.01 * seed + 0.1 * t * (LEVEL[arm] - 0.5) + 1e-4 * (seed * 7 % 5) * t * LEVEL[arm] + shift

    told = None if arm == "alone" else 0.0
    found = []
    for t in range(3):
        generator = None if told is None else score(t, 0.4)
        labels = {"prompt_accuracy": 0.4, "voted_accuracy": 0.6 + 0.01 * seed, "kept_share": 0.5, "kept_accuracy": None}
        found.append(
            {"round": t, "image_accuracy": score(t, 0.5), "t2i_accuracy": generator, "metrics": {"mine": 1.0 * t}}
            | {"labels": labels if t else None, "bytes_up": 10 if t else 5, "bytes_down": 20 + t}
        )
    ends = {key: {"before": found[0][key], "after": found[-1][key]} for key in ("image_accuracy", "t2i_accuracy")}
    summary = {**ends, "metrics": {"mine": {"before": 0.0, "after": 2.0}}, "seconds": {"total": 9.0, "setup": 1.0}}
    about = {"python": "3.11.7", "started": "2026-01-02T03:04:05+00:00", "packages": {"torch": "2.0", "numpy": "2"}}
    place.mkdir(parents=True)
    (place / "summary.json").write_text(json.dumps(summary))
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (place / "environment.json").write_text(json.dumps(about))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, study: studies.Study) -> dict[str, Any]:
    """Runs take no time: their configuration is put together, and their folder written. `shift` moves all scores."""
    how: dict[str, Any] = {"shift": 0.0, "fail": (), "commit": "abc"}

    def done(self: running.Runner, order: Mapping[str, Any]) -> tuple[float, str]:
        config = load_config(preset=order["preset"], overrides=order["overrides"])
        assert order["preset"] == "smoke"
        assert config.seed == config.server.seed == config.data.options["seed"]
        arm = "alone" if config.method == "standalone" else "full" if config.settings.get("labvote", True) else "less"
        assert config.evaluation.every == (1 if arm == "full" else 1000)
        if (arm, config.seed) in how["fail"]:
            raise running.RunFailed("no disk")
        write_run(Path(order["folder"]), arm, config.seed, how["shift"])
        return 3.0, how["commit"]

    monkeypatch.setattr(running.Runner, "_done", done)
    torch = {"packages": {"torch": "2.0"}}
    monkeypatch.setattr("fedloom.runs.environment.describe_environment", lambda: torch)
    return how


def row(**changes: str) -> dict[str, str]:
    plain = dict.fromkeys(rows.columns(["image_accuracy"]), "")
    plain |= {"study": "s", "arm": "a", "seed": "0", "settings": "x=1; y=[1, 2]", "image_accuracy": "0.5"}
    return {**plain, "processor": "P", "simd": "AVX2", "torch": "2.0", **changes}


@pytest.fixture
def kept(script: Script, made_up: dict[str, Any], tmp_path: Path) -> Path:
    """The folder of rows of five seeds; two of them on another machine too."""
    folder = tmp_path / "kept"
    script("study", "run", tmp_path / "tiny.yaml", "--results", folder, "--seeds", "0-4")
    for there in rows.read(folder / "tiny.csv")[:4]:
        rows.append(folder / "tiny.csv", {**there, "processor": "Other", "image_accuracy": "0.1"})
    return folder
