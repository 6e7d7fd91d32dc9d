"""Accuracy by style and by language: in the metrics, the summary and the report of a run, on any engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fedloom
from fedloom.config import DataSettings
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.datasets import test_groups as groups_of
from fedloom.results import Run
from fedloom.tasks import ClientTask

IMAGE, TEXT = ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION
STYLES, LANGUAGES = ("OpenMoji color", "OpenMoji outline", "OpenMoji grey"), ("en", "de")
OPTIONS = {"classes": 4, "size": 12, "most": 12, "fonts": ["openmoji"], "languages": list(LANGUAGES)}


def run(out: Path, *overrides: str) -> Run:
    data = {"name": "emoji", "options": OPTIONS}
    return fedloom.run(preset="smoke", method="standalone", data=data, rounds=1, overrides=overrides, out=out)


def test_accuracy_by_group(fedloom_cache: Path, tmp_path: Path) -> None:
    found = run(tmp_path / "local")
    scene = cached_dataset(DataSettings(name="emoji", options=OPTIONS))
    for row in found.rounds:
        by = row["by_group"]
        assert {task: tuple(groups) for task, groups in by.items()} == {"image": STYLES, "text": LANGUAGES}
        for task in (IMAGE, TEXT):
            sizes = np.bincount(scene.groups["test"][task].labels)
            whole = float(np.dot(sizes, list(by[task].values())) / sizes.sum())
            assert whole == pytest.approx(row[f"{task}_accuracy"], abs=1e-6)
    first, last = found.rounds[0], found.rounds[-1]
    ends = {"before": first["by_group"]["text"]["de"], "after": last["by_group"]["text"]["de"]}
    assert found.summary["by_group"]["text"]["de"] == ends
    report = found.report().read_text()
    assert "By group of test samples" in report
    assert "<td>OpenMoji outline</td>" in report
    engine = ("engine.name=flower", "engine.mode=loopback", "engine.silos=1")
    assert [r["by_group"] for r in run(tmp_path / "silos", *engine).rounds] == [r["by_group"] for r in found.rounds]


def test_none_where_there_is_one_group_or_a_client_holds_it_alone(tmp_path: Path) -> None:
    data = DataSettings(name="emoji", options=OPTIONS)
    scene = cached_dataset(data)
    assert groups_of(scene, data, IMAGE) is scene.groups["test"][IMAGE]
    assert groups_of(scene, data.model_copy(update={"by_group": True}), IMAGE) is None
    english = DataSettings(name="emoji", options=OPTIONS | {"languages": ["en"]})
    assert groups_of(cached_dataset(english), english, TEXT) is None
    digits = DataSettings(name="digits", options={"size": 8})
    assert groups_of(cached_dataset(digits), digits, IMAGE) is None
