"""Clients that wait on disk: the same numbers, less memory, and no file left."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import fedloom
from fedloom.errors import FedloomError
from fedloom.results import Run
from whole_runs import assert_equal

pytestmark = pytest.mark.drawn

GOING = {"share": 0.6, "late": 0.2, "join": {"text-1": 2}, "leave": {"image-1": 3}}
CASES = {
    "fedmmkt": {},
    "fedmmkt-private": {"clients.privacy": {"epsilon": 30, "delta": 1e-3}},
    "fedavg": {},
    "fedavg-secure": {"settings.secure": True},
    "fedproto": {},
    "fedmd": {"settings.shared": "public"},
    "fedloom": {},
    "fedafd": {},
    "r-creamfl": {},
}


def run(folder: Any, smoke: tuple[str, ...], case: str, *more: str, **participation: Any) -> Run:
    name = case.partition("-")[0] if case != "r-creamfl" else case
    changes = {**CASES[case], **{f"participation.{key}": value for key, value in participation.items()}}
    tree = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    preset = "smoke" if name not in ("fedafd", "r-creamfl") else "fedafd,smoke"
    made: Run = fedloom.run(
        preset=preset, overrides=(*smoke, f"method={name}", "rounds=2", *tree, *more), out=folder
    )
    return made


@pytest.mark.parametrize("case", CASES)
def test_parked_is_resident(
    case: str, fedloom_cache: Any, smoke_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """One client at a time in memory: each is parked between any two requests, also in mid-round."""
    resident = run(tmp_path / "resident", smoke_overrides, case)
    parked = run(tmp_path / "parked", smoke_overrides, case, "engine.resident=1")
    assert_equal(parked, resident)
    assert not (parked.path / "parked").exists()
