"""`fedloom pretrain`: over several sittings, to what a run begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedloom.runs.cache import cache_root

SMALL = ("--preset", "smoke", "--set", "clients.image=[]")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_CACHE", str(tmp_path / "cache"))


def test_sittings_that_are_too_short_go_on_and_a_run_then_begins_at_once(cli):
    for step in range(1, 3):  # no hours: one step of the first model each time
        short = cli("pretrain", *SMALL, "--hours", "0")
        assert short.code == 1
        assert f"CLIP: {step} of 4 steps are done and kept. The same command goes on from there" in short.err
        assert len(list((cache_root() / "unfinished").iterdir())) == 1
    done = cli("pretrain", *SMALL, "--json")
    assert done.code == 0
    assert {"tokenizer", "clip", "generator", "captioner", "judge", "scoring-clip"} <= set(done.json)
    assert all(Path(folder).is_dir() for folder in done.json.values())
    assert not list((cache_root() / "unfinished").iterdir())
    again = cli("pretrain", *SMALL, "--hours", "0")
    assert (again.code, again.err) == (0, "")
    assert "generator" in again.out


@pytest.mark.parametrize("hours", ["-1", "nan", "inf"])
def test_hours_that_are_none(cli, hours):
    refused = cli("pretrain", *SMALL, "--hours", hours)
    assert refused.code == 2
    assert "allowed are numbers from 0" in refused.err
