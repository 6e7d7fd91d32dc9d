"""A comparison on the live page: its runs as they go on, its tables once they are there. The runs are stubs."""

from __future__ import annotations

import json
import shutil
from typing import Any

import stub_runs

from fedloom.comparison import compare
from fedloom.runs.disk import locked
from fedloom.watch.places import Places

SMALL = {"options": {"size": 12, "images": 40, "texts": 40, "test": 10, "generic": 10, "reference": 10}}


def state(places: Places, at: str = "") -> dict[str, Any]:
    text = places.state(at)
    assert text is not None
    return dict(json.loads(text))


def test_a_comparison_that_is_done_one_that_goes_on_and_one_with_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("fedloom.comparison.plots.write_plots", lambda found: {})
    plan = {
        "title": "<b>Two</b> & one that fails",
        "seeds": [0],
        "rows": [
            {"name": "alone", "method": "standalone"},
            {"name": "together", "method": "fedmd"},
            {"name": "broken", "method": "fedmekt", "set": {"data": {"alpha": stub_runs.MENDABLE}}},
        ],
        "scores": ["image_accuracy", "bytes_up"],
    }
    found = compare(plan=plan, run="stub_runs:run", data=SMALL, rounds=2, jobs=1, out=tmp_path / "out")
    places = Places(found.path)
    view = state(places)
    parts = {one["title"]: one for one in view["sections"]}
    assert (view["title"], view["state"]) == (plan["title"], "with failures")
    assert view["facts"] == ["3 rows", "seed 0", "2 runs done"]
    assert view["progress"] == {"done": 2, "planned": 3, "what": "runs"}
    assert parts["Failed"]["lines"] == ["broken, seed 0: the disk is full"]
    figures = next(one for title, one in parts.items() if title not in ("Failed", "Runs", "Log"))["table"]
    assert [row[0] for row in figures["rows"]] == ["alone", "together", "broken"]
    runs = parts["Runs"]["table"]["rows"]
    assert {row[4] for row in runs} == {"2/2", "1/2"}
    assert state(places, runs[0][0]["at"])["title"].endswith("seed 0")

    (found.path / "comparison.json").unlink()  # as while it goes on
    shutil.rmtree(found.path / runs[0][0]["at"])
    with locked(found.path / ".lock"):
        view = state(places)
    assert view["state"] == "running"
    assert len({one["title"]: one for one in view["sections"]}["Runs"]["table"]["rows"]) == 2
    assert state(places)["state"] == "stopped"
