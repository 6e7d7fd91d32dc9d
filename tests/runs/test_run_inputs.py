"""How a run that is not gone on with says where configurations differ."""

from __future__ import annotations

from pathlib import Path

from fedloom.runs.folder import RunFolder

CONFIG = {"method": "fedmmkt", "data": "flora", "seed": 3}


def test_of_a_group_that_one_side_lacks_only_what_is_unusual_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", CONFIG)
    usual = {"going": {"share": 1.0, "away": 0.0, "stay": None, "join": {}}}
    other = {**CONFIG, "going": {"share": 1.0, "away": 0.5, "stay": None, "join": {"a": 3}}}
    said = ["going.away: the run has nothing, now 0.5", "going.join.a: the run has nothing, now 3"]
    assert folder.same_config(other, usual=usual) == said
    assert folder.same_config({**CONFIG, **usual}, usual=usual)  # told apart all the same
